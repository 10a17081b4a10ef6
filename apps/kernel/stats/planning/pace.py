"""How long the units that are still missing will take, from the units that came day by day, with its uncertainty.

The same users come back, so new units a day fall as d^-g; g and the level are estimated by least squares of log(new
units) on log(day), g pulled towards 0 as far as it may be chance, and never below: a pace that rises is not carried on.
The range comes from draws of both and of the days' own noise, with a fixed seed: equal counts give equal days.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from apps.kernel.stats import checks

Floats = npt.NDArray[np.float64]
LEAST_DAYS = 5
"""Fewer whole days show no trend: their mean is carried on."""
HORIZON = 3650
DRAWS = 400
COVERAGE = 0.8
STEEPEST_RISE = 0.2
FORMULA = "new units on day d = a d^-g, least squares on logarithms; range: 80 % of 400 draws of a, g and days"


@dataclass(frozen=True, slots=True)
class DaysLeft:
    """``likely``, ``soonest``, ``latest``: days until the missing units are there (10 % and 90 % of draws); None where
    they do not come within ten years. ``per_day``: of the next seven days. ``decline``: g."""

    likely: int | None
    soonest: int | None
    latest: int | None
    per_day: float
    decline: float
    days_seen: int


def days_left(
    new_per_day: Sequence[float], missing: float, *, anew: bool = False, may_decline: bool = True
) -> DaysLeft | None:
    """``new_per_day``: units first seen on each whole day so far, oldest first; None without any.

    ``anew``: the days of another experiment, which begins with nobody seen. ``may_decline`` False: what is counted
    never comes back (requests).
    """
    counts = checks.finite("new_per_day", np.asarray(new_per_day, np.float64))
    if np.any(counts < 0.0):
        raise ValueError("new_per_day must not be negative")
    if counts.size == 0 or not counts.any():
        return None
    level, decline, noise, spread = _fitted(counts, may_decline)
    before = 0 if anew else counts.size
    ahead = np.log(np.arange(before + 1, before + HORIZON + 1))
    likely = np.exp(level - decline * ahead)
    per_day = float(likely[:7].mean())
    if missing <= 0.0:
        return DaysLeft(0, 0, 0, per_day, decline, counts.size)
    first = _reached(likely, missing)
    ahead = ahead[: int(min(max(6.0 * first, 60.0), HORIZON))]
    drawn = np.array([_reached(path, missing) for path in _paths(level, decline, noise, spread, ahead)])
    soonest, latest = (float(np.quantile(drawn, q, method="higher")) for q in ((1 - COVERAGE) / 2, (1 + COVERAGE) / 2))
    return DaysLeft(_days(first), _days(soonest), _days(latest), per_day, decline, counts.size)


def _fitted(counts: Floats, may_decline: bool) -> tuple[float, float, float, Floats]:
    """(level, decline, sd of a day's logarithm, root of the covariance of level and decline)."""
    day = np.log(np.arange(1, counts.size + 1))
    y = np.log(np.maximum(counts, 0.5))
    least = 1.0 / math.sqrt(max(float(counts.mean()), 1.0))  # Poisson's own noise: no count is surer than that
    if counts.size >= LEAST_DAYS and may_decline:
        design = np.column_stack([np.ones_like(day), -day])
        inverse = np.linalg.inv(design.T @ design)
        level, decline = inverse @ design.T @ y
        noise = max(math.sqrt(float(((y - design @ [level, decline]) ** 2).sum()) / (counts.size - 2)), least)
        root = np.asarray(np.linalg.cholesky(inverse) * noise)
        sure = max(0.0, 1.0 - (noise**2 * inverse[1, 1]) / decline**2) if decline > 0.0 else 0.0
        # Pulled towards a steady pace as far as it may be chance (the positive part of Stein's rule).
        return float(y.mean() + sure * decline * day.mean()), float(sure * decline), noise, root
    # Logarithms of days that differ lie below the logarithm of their mean
    noise = max(float(y.std(ddof=1)) if counts.size > 1 else 0.3, least)
    root = np.array([[noise / math.sqrt(counts.size), 0.0], [0.0, 0.0]])
    return math.log(float(counts.mean())), 0.0, noise, root


def _paths(level: float, decline: float, noise: float, spread: Floats, ahead: Floats) -> Floats:
    random = np.random.default_rng(20_260_105)
    drawn = np.array([level, decline]) + random.standard_normal((DRAWS, 2)) @ spread.T
    slopes = np.maximum(drawn[:, 1:], -STEEPEST_RISE)
    days = random.standard_normal((DRAWS, ahead.size)) * noise
    return np.asarray(np.exp(np.minimum(drawn[:, :1] - slopes * ahead + days - noise**2 / 2, 60.0)))


def _reached(path: Floats, missing: float) -> float:
    place = int(np.searchsorted(np.cumsum(path), missing))
    return place + 1.0 if place < path.size else math.inf


def _days(value: float) -> int | None:
    return int(value) if math.isfinite(value) else None
