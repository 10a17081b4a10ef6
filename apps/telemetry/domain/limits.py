"""What one item may carry: numbers that add up for years without leaving a column, and JSON that a database takes.

A reported value inside its type can still be absurd (a sum of 1e300 s, a count of 2^52): it would stop every other item
that is written with it. Such an item is refused by itself, at the door.
"""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

MAX_LATENCY_SECONDS: Final = 86_400.0
"""One request: a day. A longer one is a mistaken unit."""
MAX_SUM_SECONDS: Final = 1e9
MAX_SUM_NS: Final = 10**18
"""One item's sum of latencies, below 2^63 nanoseconds by a factor of nine."""
MAX_COUNT: Final = 10**9
"""Requests in one item, below the 2^32 - 1 of one stored bucket by a factor of four."""
MAX_STORED: Final = 2**63 - 1

_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


def packed(value: Any) -> bytes:
    """The value as JSON. ValueError, with the end of a sentence, where PostgreSQL or a reader would choke on it."""
    try:
        found = orjson.dumps(value)  # at most 254 levels
    except TypeError as error:
        raise ValueError("is nested more than 254 deep, or is no JSON") from error
    if _NUL.search(found):
        raise ValueError("holds a NUL character")
    return found
