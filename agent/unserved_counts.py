"""Of the gateway's log of unserved requests: which lines count, and what they add up to. No input or output."""

from __future__ import annotations

import json
import math
import uuid
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

SLOT_SECONDS = 10
ROUTE = "unserved"
# Callers' requests; a forced one is somebody's experiment, and Envoy writes no line for a mirror's copy.
CALLED = frozenset({"weighted", "assigned"})
# As serving processes keep it: an hour without a control plane is 360 slots of a few variants and periods.
MAX_ROWS = 2000
ROWS_PER_BATCH = 200
_MAX_STREAMS = 500
_PER_OCTAVE = 64
_BOUNDS = tuple(2.0 ** (step / _PER_OCTAVE) for step in range(_PER_OCTAVE + 1))

_Key = tuple[str, str, int, int]  # endpoint, variant, slot, period


@dataclass(frozen=True, slots=True)
class Unserved:
    """One request without an answer of its variant; `seconds` until the gateway gave up, at `at` (Unix seconds)."""

    endpoint: str
    variant: str
    period: int
    at: float
    seconds: float
    is_timeout: bool


def parse_line(line: bytes) -> Unserved | None:
    """One line of the gateway's log; None for what is no request of a caller that a variant left without answer."""
    try:
        said = json.loads(line)
        flags = set(str(said["flags"]).split(","))
        endpoint, variant, *_ = str(said["cluster"]).split("/")
        route, period = str(said["route"]).split("/")
        seconds = float(said["duration_ms"] or 0) / 1000.0
        at = datetime.fromisoformat(said["at"]).timestamp() + seconds
        number = int(period)
        if route not in CALLED or not _is_unserved(flags, said):
            return None
    except (ValueError, KeyError, TypeError):
        # Half a line of an Envoy that was killed, or a route of an agent from before routes had names.
        return None
    return Unserved(endpoint, variant, number, at, seconds, bool(flags & {"UT", "SI"}))


def _is_unserved(flags: set[str], said: Mapping[str, Any]) -> bool:
    if "DC" in flags:
        return False  # the caller left; nobody knows what it would have been answered
    if flags == {"SI"} and said.get("status") != 504:
        return False  # the caller did not send the rest of its request
    # An answer of a process passed on is in its own counts; only "loading" is said before a process counts anything.
    return said.get("details") != "via_upstream" or bool(said.get("loading"))


@dataclass(slots=True)
class Row:
    """Failed requests of one slot: by fate, and their durations as in contracts.md section 5."""

    timeout: int = 0
    other_5xx: int = 0
    zero: int = 0
    counts: dict[int, int] = field(default_factory=dict)
    sum: float = 0.0
    min: float = math.inf
    max: float = 0.0

    @property
    def total(self) -> int:
        return self.timeout + self.other_5xx

    def add(self, seconds: float, *, is_timeout: bool) -> None:
        if is_timeout:
            self.timeout += 1
        else:
            self.other_5xx += 1
        if seconds <= 1e-9:
            self.zero += 1
        else:
            index = bucket_index(seconds)
            self.counts[index] = self.counts.get(index, 0) + 1
        self.sum += seconds
        self.min, self.max = min(self.min, seconds), max(self.max, seconds)

    def as_json(self, slot: int, period: int) -> dict[str, Any]:
        """The wire form of one slot."""
        indexes = sorted(self.counts)
        latency = {
            "zero": self.zero,
            "indexes": indexes,
            "counts": [self.counts[index] for index in indexes],
            "sum": self.sum,
            "min": self.min if self.min < math.inf else 0.0,
            "max": self.max,
        }
        counts = {"good": 0, "client_4xx": 0, "model_error": 0, "timeout": self.timeout, "other_5xx": self.other_5xx}
        return {"slot": slot, "route": ROUTE, "period": period, "total": self.total, **counts, "latency": latency}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Row:
        latency = raw["latency"]
        return cls(
            timeout=int(raw["timeout"]),
            other_5xx=int(raw["other_5xx"]),
            zero=int(latency["zero"]),
            counts=dict(zip(map(int, latency["indexes"]), map(int, latency["counts"]), strict=True)),
            sum=float(latency["sum"]),
            min=float(latency["min"]),
            max=float(latency["max"]),
        )


def bucket_index(seconds: float) -> int:
    """Schema 6 as in contracts.md section 5: index i covers (2^((i-1)/64), 2^(i/64)] seconds.

    >>> bucket_index(0.5), bucket_index(1.0), bucket_index(2.0)
    (-64, 0, 64)
    """
    mantissa, exponent = math.frexp(seconds)
    return (exponent - 1) * _PER_OCTAVE + bisect_left(_BOUNDS, mantissa * 2.0)


@dataclass(slots=True)
class Ledger:
    """Everything that is kept over a restart: the place in the log, the open rows, the batch under way."""

    inode: int = 0
    head: str = ""
    offset: int = 0
    rows: dict[_Key, Row] = field(default_factory=dict)
    pending: dict[str, Any] | None = None
    # (endpoint, variant) -> [source, sequence number of its last batch]: the control plane knows repeats by them.
    streams: dict[tuple[str, str], list[Any]] = field(default_factory=dict)

    def add(self, seen: Unserved) -> int:
        """Count one request; returns how many were dropped to stay bounded (usually 0)."""
        key = (seen.endpoint, seen.variant, int(seen.at) // SLOT_SECONDS * SLOT_SECONDS, seen.period)
        dropped = 0
        if key not in self.rows:
            if len(self.rows) >= MAX_ROWS:
                dropped = self.rows.pop(min(self.rows, key=lambda old: old[2])).total
            self.rows[key] = Row()
        self.rows[key].add(seen.seconds, is_timeout=seen.is_timeout)
        return dropped

    def freeze(self, prefix: str) -> bool:
        """Make the oldest rows of one variant the batch under way, once none is; False when there are no rows."""
        if not self.rows:
            return False
        pair = min(self.rows, key=lambda key: key[2])[:2]
        keys = sorted(key for key in self.rows if key[:2] == pair)[:ROWS_PER_BATCH]
        stream = self.streams.pop(pair, None) or [f"{prefix}gateway-{uuid.uuid4().hex[:8]}", 0]
        self.streams[pair] = [stream[0], stream[1] + 1]
        for oldest in list(self.streams)[: max(0, len(self.streams) - _MAX_STREAMS)]:
            del self.streams[oldest]  # it begins again under another name
        slots = [self.rows.pop(key).as_json(key[2], key[3]) for key in keys]
        self.pending = {"source": stream[0], "seq": stream[1] + 1, "endpoint": pair[0], "variant": pair[1]}
        self.pending["slots"] = slots
        return True

    def to_disk(self) -> dict[str, Any]:
        rows = sorted(self.rows.items(), key=lambda item: item[0])
        return {
            "log": {"inode": self.inode, "head": self.head, "offset": self.offset},
            "rows": [[endpoint, key, row.as_json(slot, period)] for (endpoint, key, slot, period), row in rows],
            "pending": self.pending,
            "streams": [[*pair, *stream] for pair, stream in self.streams.items()],
        }

    @classmethod
    def from_disk(cls, raw: Mapping[str, Any]) -> Ledger:
        """Raises KeyError, TypeError or ValueError for what this agent has not written."""
        rows = {(str(e), str(k), int(r["slot"]), int(r["period"])): Row.from_json(r) for e, k, r in raw["rows"]}
        streams = {(str(e), str(k)): [str(source), int(seq)] for e, k, source, seq in raw["streams"]}
        at, pending = raw["log"], raw["pending"]
        if pending is not None:
            pending = {**pending, "seq": int(pending["seq"]), "slots": list(pending["slots"])}
        return cls(int(at["inode"]), str(at["head"]), int(at["offset"]), rows, pending, streams)
