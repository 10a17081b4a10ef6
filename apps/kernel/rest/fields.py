"""Fields and bodies that guess nothing.

REST framework is lax by default: it takes 5 for a text, "yes" for a boolean and drops fields it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar

from rest_framework import serializers


class StrictChar(serializers.CharField):
    """A JSON string, nothing else."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str) or "\x00" in data:
            self.fail("invalid")
        return str(super().to_internal_value(data))


class StrictInteger(serializers.IntegerField):
    """A JSON whole number: no text, no fraction, no boolean."""

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, bool) or not isinstance(data, int):
            self.fail("invalid")
        return int(super().to_internal_value(data))


class StrictFloat(serializers.FloatField):
    """A finite JSON number."""

    def to_internal_value(self, data: Any) -> float:
        if isinstance(data, bool) or not isinstance(data, int | float) or not abs(data) < 1e300:
            self.fail("invalid")  # a whole number of 400 digits would not fit into a float
        return float(super().to_internal_value(data))


class StrictBoolean(serializers.BooleanField):
    """true or false."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return bool(data)


class StrictDateTime(serializers.DateTimeField):
    """RFC 3339 with an offset: a time without one means something else on every machine."""

    default_error_messages: ClassVar[dict[str, Any]] = {
        "offset": "Give the offset from UTC, for example 2026-03-01T12:00:00Z."
    }

    def to_internal_value(self, data: Any) -> datetime:
        if not isinstance(data, str) or "T" not in data.upper():
            self.fail("invalid", format="2026-03-01T12:00:00Z")
        tail = data.upper().partition("T")[2]
        if not (tail.endswith("Z") or "+" in tail or "-" in tail):
            self.fail("offset")
        return super().to_internal_value(data).astimezone(UTC)


class StrictObject(serializers.DictField):
    """A JSON object of anything."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            self.fail("not_a_dict", input_type=type(data).__name__)
        return dict(data)


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses fields it does not name."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            unknown = sorted(str(name) for name in set(data) - set(self.fields))
            if unknown:
                known = ", ".join(sorted(self.fields)) or "none"
                raise serializers.ValidationError(
                    {
                        name: [serializers.ErrorDetail(f"Unknown field; known are {known}.", "unknown")]
                        for name in unknown
                    }
                )
        return super().to_internal_value(data)
