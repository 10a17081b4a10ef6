"""Experiments that never happened: arrays of counts for calibration. Rows are experiments, columns looks or days."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

Array = npt.NDArray[Any]


def holds(rejections: Array, level: float, *, chance: float = 1e-3) -> bool:
    """Is the share of rejections within the binomial band around `level`?"""
    low, high = stats.binom.interval(1 - chance, rejections.size, level)
    return bool(low <= rejections.sum() <= high)


def cumulative(
    random: np.random.Generator, experiments: int, rate: float, per_arm: int, times: Array
) -> tuple[Array, Array]:
    """Successes and units of one arm at each look: (experiments, looks) and (looks,)."""
    units = np.rint(np.asarray(times) * per_arm).astype(int)
    steps = np.diff(units, prepend=0)
    return random.binomial(steps, rate, (experiments, units.size)).cumsum(axis=1), units


def ramp(
    random: np.random.Generator, experiments: int, *, drift: float, daily: int = 40_000, rate: float = 0.05
) -> tuple[Array, Array, Array, Array, Array]:
    """An A/A ramp 1, 5, 10, 25, 50 % of two days each: (kc, nc, kt, nt), each (experiments, 5), and the weights.

    The rate of every day differs by up to `drift` (relative), in both arms alike.
    """
    weights = np.array([0.01, 0.05, 0.10, 0.25, 0.50])
    rates = rate * (1 + random.uniform(-drift, drift, (experiments, 5, 2)))
    to_treatment = random.binomial(daily, weights[None, :, None], rates.shape)
    treated = random.binomial(to_treatment, rates).sum(-1)
    controls = random.binomial(daily - to_treatment, rates).sum(-1)
    nt = to_treatment.sum(-1)
    return controls, 2 * daily - nt, treated, nt, np.stack([1 - weights, weights], -1)


def late_labels(random: np.random.Generator, experiments: int, *, window: int, day: int, daily: int = 2000) -> Any:
    """Wrong answers (8 %, both versions) are labelled after five days on average, right ones after one; the treatment
    ramps from 5 to 50 % a fortnight before `day`. Counts per (experiment, arm, day of exposure): units, wrong and all
    labels so far, wrong labels within the window."""
    share = np.where(np.arange(day) < day - 14, 0.05, 0.50)
    to_treatment = random.binomial(daily, share, (experiments, day))
    units = np.stack([daily - to_treatment, to_treatment], axis=1)
    wrong = random.binomial(units, 0.08)
    age = day - np.arange(day) - 0.5

    def labelled(mean: float, until: Array) -> Array:
        return 1 - np.exp(-until / mean)

    in_window = random.binomial(wrong, labelled(5.0, np.minimum(age, window)))
    later = random.binomial(wrong - in_window, np.where(age > window, labelled(5.0, np.maximum(age - window, 0)), 0.0))
    right = random.binomial(units - wrong, labelled(1.0, age))
    return units, in_window + later, in_window + later + right, in_window


def user_requests(
    random: np.random.Generator, experiments: int, users: int, requests: int, spread: float
) -> tuple[Array, Array]:
    """Successes and requests per user, (experiments, users): users differ in their rate, beta with ICC `spread`."""
    a = 0.2 * (1 / spread - 1)
    rates = random.beta(a, 0.8 * (1 / spread - 1), (experiments, users))
    n = random.poisson(requests - 1, rates.shape) + 1
    return random.binomial(n, rates), n
