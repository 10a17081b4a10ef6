"""A plan tried out: many experiments that never were, with every look of the plan, with the effect and without it.

Each look gets the same share of the planned units. Units of a proportion are coins; of a mean and a ratio, normal
values with the plan's spread (sums and squares are drawn, not single units, so size costs nothing). Counts add up:
slices of runs may be computed anywhere, each from its own seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from apps.experiments.domain.design import Design
from apps.experiments.domain.sizing import effect_of
from apps.experiments.domain.words import MetricKind, Mode
from apps.kernel.canonical import sha256_of
from apps.kernel.stats.comparison import Comparisons
from apps.kernel.stats.confidence_sequence import confidence_sequence
from apps.kernel.stats.means import welch
from apps.kernel.stats.moments import Moments
from apps.kernel.stats.proportions import two_proportions, wilson_interval
from apps.kernel.stats.sequential import Look, boundaries, operating, repeated_interval

RUNS = 10_000
SLICE = 500
MOST_LOOKS = 100
VERSION = 1
"""Counts of different ways to simulate do not add up."""
GRID_UNITS = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
GRID_EFFECTS = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
WITH, WITHOUT = "effect", "nothing"
Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Trial:
    """The numbers of a plan that a simulation needs, and nothing that says whose it is."""

    is_share: bool
    baseline: float
    spread: float
    effect: float
    share: float
    alpha: float
    power: float
    mode: str
    looks: int
    total: int
    runs: int = RUNS
    version: int = VERSION

    @property
    def inputs_hash(self) -> str:
        return sha256_of(asdict(self))


def trial_of(design: Design, total: int, runs: int = RUNS) -> Trial:
    """Of a checked design with ``total`` planned units over both arms."""
    is_share = design.primary_metric.kind is MetricKind.PROPORTION
    return Trial(
        is_share=is_share,
        baseline=float(design.baseline or 0.0),
        spread=0.0 if is_share else float(design.spread or 1.0),
        effect=effect_of(design),
        share=design.share_of_treatment,
        alpha=design.alpha,
        power=design.power,
        mode=design.mode.value,
        looks=min(design.looks, MOST_LOOKS),
        total=total,
        runs=runs,
    )


def slice_of(trial: Trial, number: int) -> dict[str, Any]:
    """The counts of slice ``number``: per hypothesis the stops at each look, for better and for worse, and units."""
    size = min(SLICE, trial.runs - number * SLICE)
    seed = int.from_bytes(hashlib.sha256(f"{trial.inputs_hash} {number}".encode()).digest()[:8], "big")
    random = np.random.default_rng(seed)
    return {name: _stops(trial, effect, size, random) for name, effect in ((WITH, trial.effect), (WITHOUT, 0.0))}


def added(before: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Both slices together."""
    if not before:
        return dict(more)
    return {
        name: {key: _plus(before[name][key], value) for key, value in counts.items()} for name, counts in more.items()
    }


def summary(trial: Trial, counts: Mapping[str, Any]) -> dict[str, Any]:
    """What the runs say, with 95 % intervals of the simulation itself; and the power over units and effects."""
    found, nothing = counts[WITH], counts[WITHOUT]
    right = found["up"] if trial.effect > 0 else found["down"]
    stops = [up + down for up, down in zip(found["up"], found["down"], strict=True)]
    runs = int(found["runs"])
    return {
        "runs": runs,
        "looks": trial.looks,
        "total": trial.total,
        "power": _share(sum(right), runs),
        "wrong_way": _share(sum(stops) - sum(right), runs),
        "false_alarm": _share(sum(nothing["up"]) + sum(nothing["down"]), runs),
        "mean_units": found["units"] / runs,
        "mean_units_without": nothing["units"] / runs,
        "stopped_by_look": [float(x) for x in np.cumsum(stops) / runs],
        "grid": grid(trial),
    }


def grid(trial: Trial) -> dict[str, Any]:
    """Power, looks included, over units (times the plan) and effects (times the plan's), by numerical integration; None
    in the mode that has no boundary."""
    looks = _bounds(trial)
    rows = [
        [operating(looks, _drift(trial, effect, units)).power if looks else None for units in GRID_UNITS]
        for effect in GRID_EFFECTS
    ]
    return {
        "units": [round(trial.total * times) for times in GRID_UNITS],
        "effects": [trial.effect * times for times in GRID_EFFECTS],
        "power": rows,
    }


def _drift(trial: Trial, times_effect: float, times_units: float) -> float:
    """Expected z at the end: effect / standard error, unpooled."""
    effect = abs(trial.effect) * times_effect
    units = trial.total * times_units
    control, treatment = units * (1.0 - trial.share), units * trial.share
    if trial.is_share:
        target = float(np.clip(trial.baseline + np.sign(trial.effect) * effect, 1e-9, 1 - 1e-9))
        variance = trial.baseline * (1 - trial.baseline) / control + target * (1 - target) / treatment
        return float(abs(target - trial.baseline) / np.sqrt(variance))
    return float(effect / (trial.spread * np.sqrt(1.0 / control + 1.0 / treatment)))


def _bounds(trial: Trial) -> tuple[Look, ...]:
    """Of the planned looks; none in the mode that has no boundary."""
    if trial.mode == Mode.ALWAYS_VALID:
        return ()
    return boundaries([(look + 1) / trial.looks for look in range(trial.looks)], alpha=trial.alpha)


def _stops(trial: Trial, effect: float, size: int, random: np.random.Generator) -> dict[str, Any]:
    units = np.rint(np.arange(1, trial.looks + 1) * trial.total / trial.looks)
    treatment = np.rint(units * trial.share)
    sizes = np.stack([units - treatment, treatment])  # (arms, looks), so far
    found = _compared(trial, effect, size, sizes, random)
    crossed = _crossed(trial, found, units)
    first = np.where(crossed.any(axis=1), crossed.argmax(axis=1), trial.looks)
    sign = np.sign(np.nan_to_num(found.estimate[np.arange(size), np.minimum(first, trial.looks - 1)]))
    up, down = (np.bincount(first[(sign == way)], minlength=trial.looks + 1)[: trial.looks] for way in (1.0, -1.0))
    used = units[np.minimum(first, trial.looks - 1)].sum()
    return {"runs": size, "up": up.tolist(), "down": down.tolist(), "units": float(used)}


def _compared(trial: Trial, effect: float, size: int, sizes: Values, random: np.random.Generator) -> Comparisons:
    """(runs, looks): what each look sees of all units so far."""
    fresh = np.diff(sizes, axis=1, prepend=0.0)
    if trial.is_share:
        rates = (trial.baseline, trial.baseline + effect)
        shape = (size, trial.looks)
        kc, kt = (random.binomial(fresh[arm].astype(np.int64), rates[arm], shape).cumsum(axis=1) for arm in (0, 1))
        return two_proportions(kc, sizes[0] * np.ones(shape), kt, sizes[1] * np.ones(shape), alpha=trial.alpha)
    means = (trial.baseline, trial.baseline + effect)
    control, treatment = (_normal(means[arm], trial.spread, fresh[arm], size, random) for arm in (0, 1))
    return welch(control, treatment, alpha=trial.alpha)


def _normal(mean: float, spread: float, fresh: Values, size: int, random: np.random.Generator) -> Moments:
    """Sums and centred squares after each look, of normal values: what single values would add up to."""
    shape = (size, fresh.size)
    sums = random.normal(mean * fresh, spread * np.sqrt(fresh), shape)
    within = np.where(fresh > 1, random.chisquare(np.maximum(fresh - 1.0, 1e-9), shape), 0.0) * spread**2
    n = np.broadcast_to(fresh.cumsum(), shape)
    total = sums.cumsum(axis=1)
    squares = (sums**2 / np.maximum(fresh, 1.0)).cumsum(axis=1) - total**2 / np.maximum(n, 1.0)
    centred = within.cumsum(axis=1) + np.maximum(squares, 0.0)
    return Moments.from_parts(n.astype(np.int64), total[..., None], centred[..., None, None])


def _crossed(trial: Trial, found: Comparisons, units: Values) -> npt.NDArray[np.bool_]:
    if trial.mode == Mode.ALWAYS_VALID:
        so_far = np.broadcast_to(units, found.shape)
        return confidence_sequence(found, so_far, trial.total, alpha=trial.alpha).excludes_null
    columns = [repeated_interval(_column(found, place), look).crossed for place, look in enumerate(_bounds(trial))]
    return np.stack(columns, axis=1)


def _column(found: Comparisons, place: int) -> Comparisons:
    names = ("estimate", "standard_error", "statistic", "df", "p_value", "lower", "upper", "undefined")
    return replace(found, **{name: getattr(found, name)[:, place] for name in names})


def _share(count: int, runs: int) -> dict[str, float]:
    lower, upper = wilson_interval(count, runs)
    return {"value": count / runs, "lower": float(lower), "upper": float(upper)}


def _plus(one: Any, other: Any) -> Any:
    return [a + b for a, b in zip(one, other, strict=True)] if isinstance(one, list) else one + other
