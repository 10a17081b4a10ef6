"""What ingestion did with what it was sent: received = accepted + rejected + dropped, at every moment."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

MAX_SOURCES = 2_000
LATE_SECONDS = 60.0
ANSWER_BOUNDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Seconds; the upper bounds (inclusive) of the buckets in which the time until an answer is counted."""


@dataclass(slots=True)
class Tally:
    """Items of one body or of all bodies. ``late`` and ``skewed``: items with an old or a future time among those
    not rejected."""

    received: int = 0
    accepted: int = 0
    rejected: int = 0
    dropped: int = 0
    late: int = 0
    skewed: int = 0

    def add(self, other: Tally) -> None:
        self.received += other.received
        self.accepted += other.accepted
        self.rejected += other.rejected
        self.dropped += other.dropped
        self.late += other.late
        self.skewed += other.skewed


@dataclass(slots=True)
class SourceTally:
    """One source of one endpoint and variant since the last time these were stored.

    ``skew_seconds``: newest time stamp minus our clock when it arrived; above zero the source's clock runs ahead.
    ``resolution``: ``exact``, or what its histograms were before (``schema 3``, ``buckets``).
    """

    tally: Tally = field(default_factory=Tally)
    skew_seconds: float | None = None
    resolution: str = "exact"


SourceKey = tuple[str, str, str, str]
"""(source, format, endpoint, variant)"""


class Ledger:
    """Thread-safe totals per format, bodies per answer, and what each source did since ``take``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._formats: dict[str, Tally] = {}
        self._reasons: dict[tuple[str, str], int] = {}
        self._bodies: dict[tuple[str, int], int] = {}
        self._answers: dict[str, list[int]] = {}
        self._answer_seconds: dict[str, float] = {}
        self._sources: dict[SourceKey, SourceTally] = {}
        self._unstored = 0

    def items(self, form: str, tally: Tally, reasons: dict[str, int] | None = None) -> None:
        """Count the items of one body. ValueError when they do not add up: a bug must not look like a number."""
        if tally.received != tally.accepted + tally.rejected + tally.dropped:
            raise ValueError(f"{form}: {tally} does not add up")
        with self._lock:
            self._formats.setdefault(form, Tally()).add(tally)
            for reason, count in (reasons or {}).items():
                self._reasons[form, reason] = self._reasons.get((form, reason), 0) + count

    def unstored(self, slots: int) -> None:
        """Slots of items that were accepted and that the database refused for good."""
        with self._lock:
            self._unstored += slots

    def body(self, form: str, status: int, seconds: float) -> None:
        """One body was answered, ``seconds`` after its call arrived."""
        with self._lock:
            self._bodies[form, status] = self._bodies.get((form, status), 0) + 1
            counts = self._answers.setdefault(form, [0] * (len(ANSWER_BOUNDS) + 1))
            counts[bisect_left(ANSWER_BOUNDS, seconds)] += 1
            self._answer_seconds[form] = self._answer_seconds.get(form, 0.0) + seconds

    def source(self, key: SourceKey, tally: Tally, skew_seconds: float | None, resolution: str = "exact") -> None:
        """Remember for the list of sources; beyond ``MAX_SOURCES`` of one interval they share one line."""
        with self._lock:
            if key not in self._sources and len(self._sources) >= MAX_SOURCES:
                key = ("(others)", key[1], key[2], key[3])
            known = self._sources.setdefault(key, SourceTally())
            known.tally.add(tally)
            if skew_seconds is not None:
                known.skew_seconds = (
                    skew_seconds if known.skew_seconds is None else max(known.skew_seconds, skew_seconds)
                )
            if resolution != "exact":
                known.resolution = resolution

    def take(self) -> dict[SourceKey, SourceTally]:
        """Move out what the sources did."""
        with self._lock:
            taken, self._sources = self._sources, {}
            return taken

    def put_back(self, taken: dict[SourceKey, SourceTally]) -> None:
        """What could not be stored is added to what came since."""
        for key, known in taken.items():
            self.source(key, known.tally, known.skew_seconds, known.resolution)

    def totals(self) -> dict[str, Tally]:
        with self._lock:
            return {form: Tally(**{name: getattr(tally, name) for name in Tally.__slots__}) for form, tally in
                    sorted(self._formats.items())}  # fmt: skip

    def lines(self) -> Iterator[str]:
        """Prometheus text: every number of one scrape is of one moment."""
        with self._lock:
            formats = {
                form: [getattr(tally, name) for name in Tally.__slots__] for form, tally in self._formats.items()
            }
            reasons, bodies, unstored = dict(self._reasons), dict(self._bodies), self._unstored
            answers = {form: list(counts) for form, counts in self._answers.items()}
            seconds = dict(self._answer_seconds)
        for place, name in enumerate(Tally.__slots__):
            yield f"# HELP pilothouse_ingest_{name}_items_total {_HELP[name]}"
            yield f"# TYPE pilothouse_ingest_{name}_items_total counter"
            for form, numbers in sorted(formats.items()):
                yield f'pilothouse_ingest_{name}_items_total{{format="{form}"}} {numbers[place]}'
        yield "# HELP pilothouse_ingest_refusals_total Items rejected or dropped, by reason."
        yield "# TYPE pilothouse_ingest_refusals_total counter"
        for (form, reason), count in sorted(reasons.items()):
            yield f'pilothouse_ingest_refusals_total{{format="{form}",reason="{reason}"}} {count}'
        yield "# HELP pilothouse_ingest_bodies_total Requests by the status that they were answered with."
        yield "# TYPE pilothouse_ingest_bodies_total counter"
        for (form, status), count in sorted(bodies.items()):
            yield f'pilothouse_ingest_bodies_total{{format="{form}",status="{status}"}} {count}'
        yield from _answer_lines(answers, seconds)
        yield "# HELP pilothouse_ingest_unstored_slots_total Slots of accepted items that their window had no room for."
        yield "# TYPE pilothouse_ingest_unstored_slots_total counter"
        yield f"pilothouse_ingest_unstored_slots_total {unstored}"


def _answer_lines(answers: Mapping[str, Sequence[int]], seconds: Mapping[str, float]) -> Iterator[str]:
    name = "pilothouse_ingest_answer_seconds"
    yield f"# HELP {name} From a call's arrival to its answer, its body's reading and any commit waited for included."
    yield f"# TYPE {name} histogram"
    for form, counts in sorted(answers.items()):
        below = 0
        for bound, count in zip(ANSWER_BOUNDS, counts, strict=False):
            below += count
            yield f'{name}_bucket{{format="{form}",le="{bound:g}"}} {below}'
        yield f'{name}_bucket{{format="{form}",le="+Inf"}} {sum(counts)}'
        yield f'{name}_sum{{format="{form}"}} {seconds[form]:.6f}'
        yield f'{name}_count{{format="{form}"}} {sum(counts)}'


_HELP = {
    "received": "Items in bodies that could be read: accepted + rejected + dropped.",
    "accepted": "Items that count.",
    "rejected": "Items that can never count, duplicates among them.",
    "dropped": "Items that found no room.",
    "late": "Items more than a minute old, of those not rejected.",
    "skewed": "Items whose time lies ahead of this clock, of those not rejected.",
}
