"""Typed, sortable identifiers: ``ro_01jd…`` is a rollout and sorts by the millisecond it was made."""

from __future__ import annotations

import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id(prefix: str) -> str:
    """``<prefix>_`` + 26 characters: 48 bits of Unix milliseconds, 80 random bits (the layout of a ULID)."""
    value = (int(time.time() * 1000) << 80) | secrets.randbits(80)
    digits = [_ALPHABET[(value >> shift) & 31] for shift in range(125, -1, -5)]
    return f"{prefix}_{''.join(digits)}"
