"""Which features of a payload are kept, hashed or dropped before anything is stored."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from apps.kernel.canonical import canonical_json


class Redaction(StrEnum):
    KEEP = "keep"
    HASH = "hash"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Rules:
    """By feature, and for all that are not named. ``key`` makes hashes of one installation worthless to another."""

    key: bytes = b""
    default: Redaction = Redaction.KEEP
    features: Mapping[str, Redaction] = field(default_factory=dict)

    def applied(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Columns with rules applied. Equal values keep equal hashes (64 bits): shares can be compared."""
        found: dict[str, Any] = {}
        for name, values in inputs.items():
            rule = self.features.get(name, self.default)
            if rule is Redaction.KEEP:
                found[name] = values
            elif rule is Redaction.HASH:
                found[name] = (
                    [self._hashed(value) for value in values] if isinstance(values, list) else self._hashed(values)
                )
        return found

    def _hashed(self, value: Any) -> str | None:
        if value is None:
            return None
        return hmac.new(self.key, canonical_json(value).encode(), hashlib.sha256).hexdigest()[:16]
