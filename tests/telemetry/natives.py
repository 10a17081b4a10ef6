"""Lives of serving processes whose every observation is known, as a real Prometheus would have recorded them in native
histograms: they restart, go silent and lower their resolution.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tests.telemetry.remote_write import Histogram, Sample, Series

STEP, STEPS = 10, 60
"""Seconds between two samples, and how many there are after the first."""
GONE, BACK, RESTART, COARSER = 36, 41, 47, 30
"""Places of samples: the series ends, is there again (nothing was lost), counts from zero, has a coarser schema."""
_OUTCOMES = {"good": 0.9, "client_4xx": 0.02, "model_error": 0.05, "other_5xx": 0.03}

Seconds = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Told:
    """What happened between two samples: the latencies of all but ``client_4xx``, and counts by outcome."""

    seconds: Seconds
    outcomes: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Life:
    """One process. ``schemas``: that of its histograms, before and from ``COARSER`` on."""

    endpoint: str
    variant: str
    instance: str
    schemas: tuple[int, int]
    begin: int
    steps: list[Told]

    @property
    def labels(self) -> dict[str, str]:
        version = self.variant.removeprefix("v").replace("-", ".")
        return {
            "endpoint": self.endpoint, "variant": self.variant, "version": version, "route": "weighted",
            "job": "serving", "instance": self.instance,
        }  # fmt: skip

    def slots(self) -> Iterator[tuple[int, Told]]:
        """What stands in which slot: all that came since the sample before. What came while it was gone counts when it
        is back."""
        waiting: list[Told] = []
        for place in range(1, STEPS + 1):
            waiting.append(self.steps[place])
            if not GONE <= place < BACK:
                yield self.begin + (place - 1) * STEP, together(waiting)
                waiting = []

    def series(self) -> list[Series]:
        """As remote write takes them. A gap begins with the marker of a series that has ended."""
        timed: list[tuple[float, Sample]] = []
        counted: dict[str, list[tuple[float, Sample]]] = {outcome: [] for outcome in _OUTCOMES}
        seconds, outcomes = np.zeros(0), Counter[str]()
        for place, told in enumerate(self.steps):
            if place == RESTART:
                seconds, outcomes = np.zeros(0), Counter()
            seconds, outcomes = np.append(seconds, told.seconds), outcomes + told.outcomes
            at = self.begin + place * STEP
            if GONE < place < BACK:
                continue
            if place == GONE:
                timed.append((at, Histogram(0, is_stale=True)))
                continue
            timed.append((at, histogram(seconds, self.schemas[place >= COARSER])))
            for outcome, samples in counted.items():
                samples.append((at, float(outcomes[outcome])))
        requests = {"__name__": "pilothouse_serving_requests_total", **self.labels}
        return [
            Series({"__name__": "pilothouse_serving_request_seconds", **self.labels}, timed),
            *(Series({**requests, "outcome": outcome}, samples) for outcome, samples in counted.items()),
        ]


def a_life(endpoint: str, variant: str, instance: str, schemas: tuple[int, int], begin: int, seed: int) -> Life:
    """About 90 requests between two samples, two of three around 80 ms and the rest far slower; some take no time."""
    rng = np.random.default_rng(seed)

    def told(count: int) -> Told:
        drawn = rng.choice(list(_OUTCOMES), size=count, p=list(_OUTCOMES.values()))
        fast, slow = rng.lognormal(math.log(0.08), 0.4, count), rng.lognormal(math.log(0.9), 0.5, count)
        seconds = np.where(rng.random(count) < 0.67, fast, slow)
        seconds[rng.random(count) < 0.005] = 0.0
        return Told(seconds[drawn != "client_4xx"], Counter(drawn.tolist()))

    steps = [told(20_000), *(told(int(rng.integers(60, 120))) for _ in range(STEPS))]
    return Life(endpoint, variant, instance, schemas, begin, steps)


def an_idle_life(endpoint: str, begin: int) -> Life:
    """It was called once, and is not any more."""
    nothing = Told(np.zeros(0))
    once = Told(np.full(500, 0.1), Counter(good=500))
    return Life(endpoint, "v1-0-0", "pod-idle", (6, 6), begin, [once, *[nothing] * STEPS])


def histogram(seconds: Seconds, schema: int) -> Histogram:
    """Of all of ``seconds``."""
    positive = seconds[seconds > 0]
    buckets = Counter(bucket_of(positive, schema).tolist())
    return Histogram(schema, dict(buckets), int(seconds.size - positive.size), float(seconds.sum()))


def bucket_of(seconds: Seconds, schema: int) -> npt.NDArray[np.int64]:
    return np.ceil(np.log2(seconds) * 2.0**schema).astype(np.int64)


def together(parts: list[Told]) -> Told:
    outcomes: Counter[str] = Counter()
    for part in parts:
        outcomes.update(part.outcomes)
    return Told(np.concatenate([part.seconds for part in parts]), outcomes)


def nearest_rank(seconds: Seconds, per_thousand: int, more: int = 0) -> float:
    """The smallest value that at least this share of all do not exceed; ``more`` values further on."""
    place = -(-per_thousand * seconds.size // 1000) - 1 + more
    return float(np.sort(seconds)[min(max(place, 0), seconds.size - 1)])
