"""Group-sequential boundaries: look as often as planned or not, and keep the error rate and nearly all of the power.

Lan and DeMets (1983): alpha is spent as a function of information t (units so far / units planned), so neither number
nor times of the looks need be known before. The boundary of a look solves P(first crossing now) = alpha newly spent;
the joint distribution of the statistics is that of Brownian motion B(t) = Z sqrt(t), integrated look by look
(Armitage, McPherson and Rowe 1969; Jennison and Turnbull 2000, chapter 19), here by 12-point Gauss-Legendre panels no
wider than three standard deviations of the step: good to about 1e-9.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy import special

from . import checks
from .comparison import Comparisons, critical, interval
from .crossing import FAR, SMALLEST_STEP, Look, Spending, carried, panels, spent, states
from .roots import root

Floats = npt.NDArray[np.float64]
__all__ = [
    "SMALLEST_STEP", "Look", "Operating", "RepeatedInterval", "Spending", "boundaries", "drift_for", "inflation",
    "latest_boundaries", "latest_boundary", "operating", "repeated_interval", "repeated_intervals", "spent",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Operating:
    """What a plan of looks does under a drift. stopping: chance to stop at each look, on either side; power: chance to
    stop in the right direction at any look; expected_information: at the end, 1 is the planned sample."""

    stopping: tuple[float, ...]
    power: float
    expected_information: float


@dataclass(frozen=True, slots=True, eq=False)
class RepeatedInterval:
    """lower, upper: cover the truth at all looks together; crossed: boundary reached; NaN/False where undefined."""

    lower: Floats
    upper: Floats
    crossed: npt.NDArray[np.bool_]


def boundaries(
    information: Sequence[float], *, alpha: float = 0.05, spending: str = Spending.OBRIEN_FLEMING, sides: int = 2
) -> tuple[Look, ...]:
    """Boundaries at looks with information t_1 < t_2 < ... (units so far / planned; may pass 1).

    Past looks never change when another is added, so stored readouts stay true. The first look at or beyond 1 spends
    what is left; later ones have an infinite bound, and so have looks that come too soon after the last. ValueError on
    times that fall or are not positive.
    """
    rule, (times,) = _checked([information], alpha, spending, sides)
    return tuple(state.look for state in states([times[: k + 1] for k in range(len(times))], alpha, rule, sides))


def latest_boundary(
    information: Sequence[float], *, alpha: float = 0.05, spending: str = Spending.OBRIEN_FLEMING, sides: int = 2
) -> Look:
    """The last of `boundaries`; where the earlier looks are still in memory it costs one step (about 0.1 ms)."""
    return latest_boundaries([information], alpha=alpha, spending=spending, sides=sides)[0]


def latest_boundaries(
    histories: Sequence[Sequence[float]],
    *,
    alpha: float = 0.05,
    spending: str = Spending.OBRIEN_FLEMING,
    sides: int = 2,
) -> tuple[Look, ...]:
    """`latest_boundary` of many experiments, each with looks of its own, in one pass; bit for bit the same."""
    rule, known = _checked(histories, alpha, spending, sides)
    if not all(known):
        raise ValueError("information must hold at least one look")
    return tuple(state.look for state in states(known, alpha, rule, sides))


def _checked(
    histories: Sequence[Sequence[float]], alpha: float, spending: str, sides: int
) -> tuple[str, list[tuple[float, ...]]]:
    checks.open_unit("alpha", alpha)
    if sides not in {1, 2}:
        raise ValueError(f"sides must be 1 or 2, got {sides!r}")
    known = [tuple(map(float, information)) for information in histories]
    for times in known:
        if times and not (times[0] > 0.0 and times[-1] < math.inf and all(a <= b for a, b in pairwise(times))):
            raise ValueError(f"information must be positive and must not fall from look to look, got {times}")
    return Spending(checks.one_of("spending", spending, tuple(Spending))).value, known


def operating(looks: Sequence[Look], drift: float, *, sides: int = 2) -> Operating:
    """Stopping probabilities where E Z(t) = drift sqrt(t); drift 0 gives half of alpha per side, z_a + z_b the power.

    Only crossings in the direction of the drift count as power, as in R's power.prop.test; stops on the other side end
    the experiment all the same.
    """
    nodes, density, before, stopping, right = np.zeros(1), np.ones(1), 0.0, [], []
    lower = upper = 0.0
    step_before = math.inf
    for look in looks:
        if math.isinf(look.bound):  # nobody can stop here; the density is carried over two steps at the next look
            right.append(0.0)
            stopping.append(0.0)
            continue
        step = math.sqrt(look.information - before)
        if before > 0.0:
            old, shift = (nodes, density), drift * step_before * step_before
            nodes, weights = panels(lower, upper, min(step, step_before))
            density = weights * carried(old[0] + shift, old[1], nodes, step_before)
        at, mean = look.bound * math.sqrt(look.information), nodes + drift * step * step
        up = float(density @ special.ndtr((mean - at) / step))
        down = float(density @ special.ndtr((-at - mean) / step)) if sides == 2 else 0.0
        right.append(up if drift >= 0 else down)
        stopping.append(up + down)
        far = FAR * math.sqrt(look.information)
        middle = drift * look.information
        upper = min(at, middle + far)
        # under a strong drift nobody is left below the bound: the region is empty, never turned round
        lower = min(max(-at, middle - far) if sides == 2 else middle - far, upper)
        before, step_before = look.information, step
    last = looks[-1].information
    ended = sum(stopping)
    expected = sum(p * look.information for p, look in zip(stopping, looks, strict=True)) + (1.0 - ended) * last
    return Operating(tuple(stopping), sum(right), expected)


def drift_for(power: float, looks: Sequence[Look], *, sides: int = 2) -> float:
    """The drift sqrt(information) x effect / sd at which these looks have the power."""
    checks.open_unit("power", power)
    return root(lambda d: operating(looks, d, sides=sides).power - power, 0.0, 40.0, xtol=1e-10)


def inflation(
    looks: int,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    spending: str = Spending.OBRIEN_FLEMING,
    sides: int = 2,
) -> float:
    """How many times the fixed sample an experiment with so many equally spaced looks needs for the same power.

    (drift / (z_{1 - a} + z_power))^2; 1.02 to 1.04 for O'Brien-Fleming spending, 1.2 to 1.4 for Pocock's.
    """
    if looks < 1:
        raise ValueError(f"looks must be at least 1, got {looks!r}")
    return _inflation(int(looks), alpha, power, str(spending), sides)


def repeated_interval(comparisons: Comparisons, look: Look) -> RepeatedInterval:
    """estimate +- c_k standard errors (Jennison and Turnbull 1989), c_k the look's bound, in the tails of t where the
    comparison has degrees of freedom. (-inf, inf) where the look may spend nothing."""
    return repeated_intervals(comparisons, [look] * comparisons.estimate.size)


def repeated_intervals(comparisons: Comparisons, looks: Sequence[Look]) -> RepeatedInterval:
    """`repeated_interval` with a look of its own for each comparison, in the order of its elements."""
    levels = np.array([look.nominal_alpha for look in looks]).reshape(comparisons.shape)
    may, side = levels > 0.0, comparisons.alternative
    safe = np.where(may, levels, 0.5)
    with np.errstate(invalid="ignore"):
        lower, upper = interval(comparisons.estimate, comparisons.standard_error, comparisons.df, safe, side)
        z = comparisons.statistic
        towards = np.abs(z) if side == "two-sided" else z if side == "greater" else -z
        crossed = may & (towards >= critical(comparisons.df, safe, side))
    wide = np.where(comparisons.defined, np.inf, np.nan)
    return RepeatedInterval(np.where(may, lower, -wide), np.where(may, upper, wide), np.asarray(crossed))


@lru_cache(maxsize=256)
def _inflation(looks: int, alpha: float, power: float, spending: str, sides: int) -> float:
    plan = boundaries([(k + 1) / looks for k in range(looks)], alpha=alpha, spending=spending, sides=sides)
    fixed = -special.ndtri(alpha / sides) + special.ndtri(power)
    return float((drift_for(power, plan, sides=sides) / fixed) ** 2)
