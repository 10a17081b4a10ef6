"""Group-sequential boundaries: look as often as planned or not, and keep the error rate and nearly all of the power.

Lan and DeMets (1983): alpha is spent as a function of information t (units so far / units planned), so neither number
nor times of the looks need be known before. The boundary of a look solves P(first crossing now) = alpha newly spent;
the joint distribution of the statistics is that of Brownian motion B(t) = Z sqrt(t), integrated look by look
(Armitage, McPherson and Rowe 1969; Jennison and Turnbull 2000, chapter 19), here by 12-point Gauss-Legendre panels no
wider than three standard deviations of the step: good to about 1e-9.

1. The density of B on the region where nobody stopped is known at nodes s_j (weights included).
2. The crossing probability of a bound c is sum_j g_j [1 - Phi((c sqrt t - s_j) / sqrt(dt))], doubled side for side.
3. Solve for c, cut the region at it, and carry the density on at the next look.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from itertools import pairwise
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from . import checks
from .comparison import Comparisons, critical, interval

Floats = npt.NDArray[np.float64]

SMALLEST_STEP = 1e-3
"""Looks less than a thousandth of the planned information apart are the same look: nothing new is spent."""
_LEAST_SPENT = 1e-25  # less than this is kept for the next look: its bound would lie beyond ten standard deviations
_FAR = 10.0  # the density is cut there; 1e-23 lies beyond
_PEAK = 1.0 / math.sqrt(2.0 * math.pi)
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(12)


class Spending(StrEnum):
    """How alpha is spent as information grows; totals are reached at t = 1."""

    OBRIEN_FLEMING = "obrien_fleming"  # nearly nothing early, nearly everything at the end
    POCOCK = "pocock"  # about the same bound at every look; earlier stops, less power
    LINEAR = "linear"  # alpha t


@dataclass(frozen=True, slots=True)
class Look:
    """One look. bound: reject where |z| (one-sided: z) reaches it; inf where nothing may be spent.

    alpha_spent: in all so far, both sides. nominal_alpha: the level a fixed test has at this bound (both sides for
    two-sided): reject where its p-value is at most that, which also serves t-tests.
    """

    information: float
    alpha_spent: float
    bound: float
    nominal_alpha: float


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


def spent(information: float, alpha: float, spending: str = Spending.OBRIEN_FLEMING, sides: int = 2) -> float:
    """Alpha spent by information t in all (both sides together); all of it from t = 1 on.

    obrien_fleming: per side 2 (1 - Phi(z_{1 - a/2} / sqrt t)), a = alpha / sides (Lan and DeMets 1983). pocock: per
    side a log(1 + (e - 1) t).
    """
    t, a = min(information, 1.0), alpha / sides
    if t <= 0.0:
        return 0.0
    if t >= 1.0:
        return alpha
    match Spending(spending):
        case Spending.OBRIEN_FLEMING:
            return float(sides * 2.0 * special.ndtr(special.ndtri(a / 2.0) / math.sqrt(t)))
        case Spending.POCOCK:
            return sides * a * math.log1p((math.e - 1.0) * t)
        case Spending.LINEAR:
            return alpha * t


def boundaries(
    information: Sequence[float], *, alpha: float = 0.05, spending: str = Spending.OBRIEN_FLEMING, sides: int = 2
) -> tuple[Look, ...]:
    """Boundaries at looks with information t_1 < t_2 < ... (units so far / planned; may pass 1).

    Past looks never change when another is added, so stored readouts stay true. The first look at or beyond 1 spends
    what is left; later ones have an infinite bound, and so have looks that come too soon after the last. ValueError on
    times that fall or are not positive.
    """
    times, rule = _checked(information, alpha, spending, sides)
    return tuple(_state(times[: k + 1], alpha, rule, sides).look for k in range(len(times)))


def latest_boundary(
    information: Sequence[float], *, alpha: float = 0.05, spending: str = Spending.OBRIEN_FLEMING, sides: int = 2
) -> Look:
    """The last of `boundaries`; where the earlier looks are still in memory it costs one step (about 0.1 ms)."""
    times, rule = _checked(information, alpha, spending, sides)
    if not times:
        raise ValueError("information must hold at least one look")
    return _state(times, alpha, rule, sides).look


def _checked(information: Sequence[float], alpha: float, spending: str, sides: int) -> tuple[tuple[float, ...], str]:
    checks.open_unit("alpha", alpha)
    if sides not in {1, 2}:
        raise ValueError(f"sides must be 1 or 2, got {sides!r}")
    times = tuple(map(float, information))
    if any(not (math.isfinite(t) and t > 0.0) for t in times) or any(b < a for a, b in pairwise(times)):
        raise ValueError(f"information must be positive and must not fall from look to look, got {times}")
    return times, Spending(checks.one_of("spending", spending, tuple(Spending))).value


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
            nodes, weights = _panels(lower, upper, min(step, step_before))
            density = weights * _carried(old[0] + shift, old[1], nodes, step_before)
        at, mean = look.bound * math.sqrt(look.information), nodes + drift * step * step
        up = float(density @ special.ndtr((mean - at) / step))
        down = float(density @ special.ndtr((-at - mean) / step)) if sides == 2 else 0.0
        right.append(up if drift >= 0 else down)
        stopping.append(up + down)
        far = _FAR * math.sqrt(look.information)
        middle = drift * look.information
        lower = max(-at, middle - far) if sides == 2 else middle - far
        upper = min(at, middle + far)
        before, step_before = look.information, step
    last = looks[-1].information
    ended = sum(stopping)
    expected = sum(p * look.information for p, look in zip(stopping, looks, strict=True)) + (1.0 - ended) * last
    return Operating(tuple(stopping), sum(right), expected)


def drift_for(power: float, looks: Sequence[Look], *, sides: int = 2) -> float:
    """The drift sqrt(information) x effect / sd at which these looks have the power."""
    checks.open_unit("power", power)
    return float(optimize.brentq(lambda d: operating(looks, d, sides=sides).power - power, 0.0, 40.0, xtol=1e-10))


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
    one_sided = comparisons.alternative != "two-sided"
    if look.nominal_alpha <= 0.0:
        wide = np.where(comparisons.defined, np.inf, np.nan)
        return RepeatedInterval(-wide, wide, np.zeros(comparisons.shape, np.bool_))
    with np.errstate(invalid="ignore"):
        lower, upper = interval(
            comparisons.estimate,
            comparisons.standard_error,
            comparisons.df,
            look.nominal_alpha,
            comparisons.alternative,
        )
        needed = critical(comparisons.df, look.nominal_alpha, comparisons.alternative)
        z = comparisons.statistic
        towards = np.abs(z) if not one_sided else z if comparisons.alternative == "greater" else -z
        return RepeatedInterval(lower, upper, np.asarray(towards >= needed))


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    """After a look: the density before it (so that the next look may choose finer nodes), and where it was cut."""

    nodes: Floats
    density: Floats
    step: float
    time: float
    lower: float
    upper: float
    look: Look


@lru_cache(maxsize=32_768)  # about 2 KiB each
def _state(times: tuple[float, ...], alpha: float, rule: str, sides: int) -> _State:
    """State after the last of these looks; prefixes are cached, so that one more look costs one step (< 1 ms)."""
    now = times[-1]
    before = _state(times[:-1], alpha, rule, sides) if len(times) > 1 else _start()
    total = spent(now, alpha, rule, sides)
    new = total - before.look.alpha_spent
    # Measured from the last look that was used, so many tiny steps add up to one.
    if new < _LEAST_SPENT or now - before.time < SMALLEST_STEP:
        idle = Look(now, before.look.alpha_spent, math.inf, 0.0)
        return _State(before.nodes, before.density, before.step, before.time, before.lower, before.upper, idle)
    step = math.sqrt(now - before.time)
    nodes, density = before.nodes, before.density
    if before.time > 0.0:
        nodes, weights = _panels(before.lower, before.upper, min(step, before.step))
        density = weights * _carried(before.nodes, before.density, nodes, before.step)
    bound = _solve(nodes, density, step, math.sqrt(now), new, sides)
    at, far = bound * math.sqrt(now), _FAR * math.sqrt(now)
    look = Look(now, total, bound, float(sides * special.ndtr(-bound)))
    return _State(nodes, density, step, now, -min(at, far) if sides == 2 else -far, min(at, far), look)


def _start() -> _State:
    return _State(np.zeros(1), np.ones(1), math.inf, 0.0, 0.0, 0.0, Look(0.0, 0.0, math.inf, 0.0))


def _solve(nodes: Floats, density: Floats, step: float, root_time: float, wanted: float, sides: int) -> float:
    """The bound whose first-crossing probability is `wanted`, by Newton's method on its logarithm.

    The logarithm is concave, so steps from above stay above and fall. Above are the bound of a single look and that
    of a path that sits at the edge of what was left.
    """
    scale, far = root_time / step, float(-special.ndtri(wanted / sides))
    bound = min(far, (max(float(nodes[-1]), 0.0) + step * far) / root_time) if far > 0.0 else far
    for _ in range(40):
        up = nodes / step - bound * scale
        crossing, slope = special.ndtr(up), np.exp(-0.5 * up * up)
        if sides == 2:
            down = -nodes / step - bound * scale
            crossing, slope = crossing + special.ndtr(down), slope + np.exp(-0.5 * down * down)
        probability = max(float(density @ crossing), 1e-300)
        falls = float(density @ slope) * scale * _PEAK / probability
        change = math.log(probability / wanted) / falls
        bound += change
        if abs(change) <= 1e-12 * max(abs(bound), 1.0):
            return bound
    raise ArithmeticError(f"no boundary found for {wanted!r} at {root_time!r}")  # not seen in millions of looks


def _panels(lower: float, upper: float, step: float) -> tuple[Floats, Floats]:
    """Nodes and weights on [lower, upper], panels at most three steps wide."""
    count = max(1, math.ceil((upper - lower) / (3.0 * step)))
    half = (upper - lower) / (2 * count)
    middles = lower + half * (2.0 * np.arange(count) + 1.0)
    return (middles[:, None] + half * _NODES).ravel(), np.tile(half * _WEIGHTS, count)


def _carried(means: Floats, density: Floats, points: Floats, step: float) -> Floats:
    """Density of the next B at `points`: the old one, moved by a normal step."""
    z: Any = (points[:, None] - means[None, :]) / step
    return cast(Floats, np.exp(-0.5 * z * z) @ density / (step * math.sqrt(2.0 * math.pi)))


@lru_cache(maxsize=256)
def _inflation(looks: int, alpha: float, power: float, spending: str, sides: int) -> float:
    plan = boundaries([(k + 1) / looks for k in range(looks)], alpha=alpha, spending=spending, sides=sides)
    fixed = -special.ndtri(alpha / sides) + special.ndtri(power)
    return float((drift_for(power, plan, sides=sides) / fixed) ** 2)
