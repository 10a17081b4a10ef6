"""The boundary of each look, solved for one after the other: the density of those who have not stopped, carried on.

1. The density of B(t) = Z sqrt(t) on the region where nobody stopped is known at nodes s_j (weights included).
2. The crossing probability of a bound c is sum_j g_j [1 - Phi((c sqrt t - s_j) / sqrt(dt))], doubled side for side.
3. Solve for c, cut the region at it, and carry the density on at the next look.

Two-sided regions are symmetric: only the nodes above zero are kept, and every sum counts twice. Many experiments are
solved at once; one is a batch of one, so both give the same bits.
"""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from itertools import islice
from typing import cast

import numpy as np
import numpy.typing as npt
from scipy import special

Floats = npt.NDArray[np.float64]

SMALLEST_STEP = 1e-3
"""Looks less than a thousandth of the planned information apart are the same look: nothing new is spent."""
_LEAST_SPENT = 1e-25  # less than this is kept for the next look: its bound would lie beyond ten standard deviations
FAR = 10.0  # the density is cut there; 1e-23 lies beyond
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


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """After a look: the density before it (so that the next look may choose finer nodes), and where it was cut.
    Two-sided: nodes above zero only."""

    nodes: Floats
    density: Floats
    step: float
    time: float
    lower: float
    upper: float
    look: Look


@dataclass(frozen=True, slots=True, eq=False)
class _Open:
    """A look whose bound is to be solved for: alpha ``new`` is spent at it, ``total`` in all."""

    nodes: Floats
    density: Floats
    step: float
    now: float
    new: float
    total: float


_Key = tuple[tuple[float, ...], float, str, int]
_KEPT = 32_768  # states, about 1 KiB each
_KNOWN: dict[_Key, State] = {}
_LOCK = threading.Lock()


def states(histories: Sequence[tuple[float, ...]], alpha: float, rule: str, sides: int) -> list[State]:
    """State after the last look of each; prefixes are kept, so that one more look costs one step (< 1 ms)."""
    made: dict[tuple[float, ...], State] = {}
    lacking: dict[int, dict[tuple[float, ...], None]] = {}
    for whole in histories:
        times = whole
        while times and times not in made and times not in lacking.get(len(times), ()):
            known = _KNOWN.get((times, alpha, rule, sides))
            if known is not None:
                made[times] = known
                break
            lacking.setdefault(len(times), {})[times] = None
            times = times[:-1]
    start = _start(sides)
    for length in sorted(lacking):
        rows = list(lacking[length])
        befores = [made[times[:-1]] if length > 1 else start for times in rows]
        fresh = _advance(rows, befores, alpha, rule, sides)
        made.update(zip(rows, fresh, strict=True))
        _keep([((times, alpha, rule, sides), state) for times, state in zip(rows, fresh, strict=True)])
    return [made[times] for times in histories]


def _keep(states: Sequence[tuple[_Key, State]]) -> None:
    with _LOCK:
        _KNOWN.update(states)
        surplus = len(_KNOWN) - _KEPT
        if surplus > 0:
            for key in list(islice(_KNOWN, surplus + _KEPT // 8)):  # the oldest, some at once
                del _KNOWN[key]


def _advance(
    rows: Sequence[tuple[float, ...]], befores: Sequence[State], alpha: float, rule: str, sides: int
) -> list[State]:
    """One more look each."""
    found: list[State | None] = []
    opened: list[_Open] = []
    for times, before in zip(rows, befores, strict=True):
        now = times[-1]
        total = spent(now, alpha, rule, sides)
        new = total - before.look.alpha_spent
        # Measured from the last look that was used, so many tiny steps add up to one.
        if new < _LEAST_SPENT or now - before.time < SMALLEST_STEP:
            idle = Look(now, before.look.alpha_spent, math.inf, 0.0)
            found.append(
                State(before.nodes, before.density, before.step, before.time, before.lower, before.upper, idle)
            )
            continue
        found.append(None)
        opened.append(_opened(before, now, new, total, sides))
    solved = zip(opened, _solve(opened, sides) if opened else (), strict=True)
    return [state if state is not None else _closed(*next(solved), sides) for state in found]


def _opened(before: State, now: float, new: float, total: float, sides: int) -> _Open:
    step = math.sqrt(now - before.time)
    nodes, density = before.nodes, before.density
    if before.time > 0.0:
        nodes, weights = panels(before.lower, before.upper, min(step, before.step))
        means, masses = before.nodes, before.density
        if sides == 2:
            half = nodes.size // 2
            nodes, weights = nodes[half:], weights[half:]
            means, masses = np.concatenate([-means[::-1], means]), np.concatenate([masses[::-1], masses])
        density = weights * carried(means, masses, nodes, before.step)
    return _Open(nodes, density, step, now, new, total)


def _closed(one: _Open, bound: float, sides: int) -> State:
    at, far = bound * math.sqrt(one.now), FAR * math.sqrt(one.now)
    look = Look(one.now, one.total, bound, float(sides * special.ndtr(-bound)))
    lower = -min(at, far) if sides == 2 else -far
    return State(one.nodes, one.density, one.step, one.now, lower, min(at, far), look)


def _start(sides: int) -> State:
    nothing = Look(0.0, 0.0, math.inf, 0.0)
    return State(np.zeros(1), np.full(1, 1.0 / sides), math.inf, 0.0, 0.0, 0.0, nothing)


def _solve(rows: Sequence[_Open], sides: int) -> list[float]:
    """The bounds whose first-crossing probabilities are ``new``, by Newton's method on their logarithms.

    The logarithm is concave, so steps from above stay above and fall. Above are the bound of a single look and that
    of a path that sits at the edge of what was left. A row that has arrived stays where it is: what stands beside it
    changes none of its bits.
    """
    sizes = np.array([row.nodes.size for row in rows])
    starts = np.cumsum(sizes) - sizes
    step, now, wanted = (np.array([getattr(row, name) for row in rows]) for name in ("step", "now", "new"))
    root = np.sqrt(now)
    nodes = np.concatenate([row.nodes for row in rows]) / np.repeat(step, sizes)
    density = np.concatenate([row.density for row in rows])
    scale, far = root / step, -special.ndtri(wanted / sides)
    edge = np.maximum(np.array([row.nodes[-1] for row in rows]), 0.0)
    bound = np.where(far > 0.0, np.minimum(far, (edge + step * far) / root), far)
    moving = np.ones(len(rows), np.bool_)
    for _ in range(40):
        shift = np.repeat(bound * scale, sizes)
        up = nodes - shift
        crossing, slope = special.ndtr(up), np.exp(-0.5 * up * up)
        if sides == 2:
            down = -nodes - shift
            crossing += special.ndtr(down)
            slope += np.exp(-0.5 * down * down)
        probability = np.maximum(sides * np.add.reduceat(density * crossing, starts), 1e-300)
        falls = sides * np.add.reduceat(density * slope, starts) * scale * _PEAK / probability
        change = np.where(moving, np.log(probability / wanted) / falls, 0.0)
        bound = bound + change
        moving &= np.abs(change) > 1e-12 * np.maximum(np.abs(bound), 1.0)
        if not moving.any():
            return cast("list[float]", bound.tolist())
    worst = rows[int(np.flatnonzero(moving)[0])]
    raise ArithmeticError(f"no boundary found for {worst.new!r} at {worst.now!r}")  # not seen in millions of looks


def panels(lower: float, upper: float, step: float) -> tuple[Floats, Floats]:
    """Nodes and weights on [lower, upper], panels at most three steps wide."""
    reach = 0.5 * (upper - lower)
    nodes, weights = _unit(max(1, math.ceil(2.0 * reach / (3.0 * step))))
    return 0.5 * (lower + upper) + reach * nodes, reach * weights


@lru_cache(maxsize=4096)
def _unit(count: int) -> tuple[Floats, Floats]:
    """So many equal panels on [-1, 1]."""
    half = 1.0 / count
    middles = half * (2.0 * np.arange(count) + 1.0) - 1.0
    return (middles[:, None] + half * _NODES).ravel(), np.tile(half * _WEIGHTS, count)


def carried(means: Floats, density: Floats, points: Floats, step: float) -> Floats:
    """Density of the next B at `points`: the old one, moved by a normal step."""
    scale = math.sqrt(0.5) / step
    z = np.subtract.outer(points * scale, means * scale)
    np.multiply(z, z, out=z)
    np.negative(z, out=z)
    np.exp(z, out=z)
    return np.asarray(z @ density / (step * math.sqrt(2.0 * math.pi)))
