"""Reading a JSON object that a person wrote: every fault names its field by JSON pointer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from apps.kernel.errors import InvalidInput


class Reader:
    """One JSON object and where it stands. Every ``take`` marks a key as known; ``end`` refuses the rest."""

    def __init__(self, pointer: str, data: Any) -> None:
        if not isinstance(data, Mapping):
            raise InvalidInput.at(pointer, "bad_type", f"{pointer} must be a JSON object.")
        self.pointer = pointer
        self._data = data
        self._known: set[str] = set()

    def text(self, key: str, default: str = "", *, is_required: bool = False) -> str:
        value = self._take(key, default)
        if not isinstance(value, str):
            raise self.fault(key, "bad_type", "must be a text")
        if is_required and not value:
            raise self.fault(key, "required", "is required")
        return value

    def one_of(self, key: str, known: Iterable[str], default: str) -> str:
        value, choices = self.text(key, default), list(known)
        if value not in choices:
            raise self.fault(key, "unknown", f"is {value!r}, which is none of {', '.join(choices)}")
        return value

    def number(self, key: str, default: int, *, least: int, most: int = 1_000_000) -> int:
        value = self._take(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.fault(key, "out_of_range", f"must be a whole number from {least} to {most}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self._take(key, default)
        if not isinstance(value, bool):
            raise self.fault(key, "bad_type", "must be true or false")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._take(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.fault(key, "bad_type", "must be a list of texts")
        return tuple(value)

    def pairs(self, key: str) -> dict[str, str]:
        value = self._take(key, {})
        if not isinstance(value, Mapping) or not all(isinstance(item, str) for item in value.values()):
            raise self.fault(key, "bad_type", "must be an object of texts")
        return dict(value)

    def objects(self, key: str) -> tuple[dict[str, Any], ...]:
        """A list of JSON objects that go into a manifest as they are; the cluster checks what is in them."""
        value = self._take(key, [])
        if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
            raise self.fault(key, "bad_type", "must be a list of objects")
        return tuple(dict(item) for item in value)

    def object(self, key: str) -> dict[str, Any]:
        value = self._take(key, {})
        if not isinstance(value, Mapping):
            raise self.fault(key, "bad_type", "must be an object")
        return dict(value)

    def child(self, key: str) -> Reader:
        return Reader(f"{self.pointer}/{key}", self._take(key, {}))

    def raw(self) -> Mapping[str, Any]:
        """As it was given."""
        return self._data

    def has(self, key: str) -> bool:
        return key in self._data

    def end(self) -> None:
        unknown = sorted(set(self._data) - self._known)
        if unknown:
            known = ", ".join(sorted(self._known))
            raise self.fault(unknown[0], "unknown_field", f"is not known here; known are {known}")

    def fault(self, key: str, code: str, what: str) -> InvalidInput:
        return InvalidInput.at(f"{self.pointer}/{key}", code, f"{self.pointer}/{key} {what}.")

    def _take(self, key: str, default: Any) -> Any:
        self._known.add(key)
        return self._data.get(key, default)
