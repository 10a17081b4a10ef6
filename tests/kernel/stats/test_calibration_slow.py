"""The promised figures, mostly ten thousand experiments each, fixed seeds (about two minutes)."""

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from apps.kernel.stats.arms import independent, mean_of, ratio_of
from apps.kernel.stats.confidence_sequence import best_rho, multiplier
from apps.kernel.stats.difference import difference
from apps.kernel.stats.histogram import ExponentialHistogram
from apps.kernel.stats.means import paired_t, welch
from apps.kernel.stats.moments import Moments
from apps.kernel.stats.paired import PairedCounts, mcnemar
from apps.kernel.stats.periods import cochran_mantel_haenszel, combine_periods
from apps.kernel.stats.planning import design, means
from apps.kernel.stats.planning import paired as paired_plan
from apps.kernel.stats.planning import proportions as plan
from apps.kernel.stats.proportions import two_proportions
from apps.kernel.stats.quantiles import quantile_difference
from apps.kernel.stats.sequential import boundaries
from apps.kernel.stats.srm import check_split

from .simulate import cumulative, late_labels, ramp

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

EXPERIMENTS = 10_000
PLANNED = 13_914
LOOKS = {
    "14": (np.arange(14) + 1) / 14,
    "28": (np.arange(28) + 1) / 28,
    "irregular": np.array([0.03, 0.04, 0.11, 0.35, 0.36, 0.37, 0.61, 0.62, 0.9, 0.97, 1.0]),
    "overrun": np.array([0.2, 0.5, 0.8, 1.15]),
}


def stopped(random: np.random.Generator, rate: float, times: np.ndarray, spending: str = "obrien_fleming") -> Any:  # type: ignore[type-arg]
    """(crossed in the right direction or any, share of the planned sample used) per experiment."""
    bounds = np.array([look.bound for look in boundaries(list(times), spending=spending)])
    control, n = cumulative(random, EXPERIMENTS, 0.03, PLANNED, times)
    treatment, _ = cumulative(random, EXPERIMENTS, rate, PLANNED, times)
    crossed = np.abs(np.nan_to_num(two_proportions(control, n, treatment, n).statistic)) >= bounds
    any_crossed = crossed.any(axis=1)
    used = np.where(any_crossed, times[crossed.argmax(axis=1)], times[-1])
    return any_crossed, used


@pytest.mark.parametrize("looks", LOOKS)
def test_the_default_rejects_at_most_5_4_percent_of_equal_arms(looks: str) -> None:
    crossed, _ = stopped(np.random.default_rng(201), 0.03, LOOKS[looks])
    assert crossed.mean() <= 0.054


def test_the_default_has_97_percent_of_the_fixed_power_with_80_percent_of_the_sample() -> None:
    random = np.random.default_rng(202)
    fixed, _ = stopped(random, 0.036, np.array([1.0]))
    for looks in ("14", "28"):
        crossed, used = stopped(random, 0.036, LOOKS[looks])
        assert crossed.mean() >= 0.97 * fixed.mean()
        assert used.mean() <= 0.80


def test_always_valid_rejects_at_most_5_4_percent_at_1400_looks() -> None:
    random, looks = np.random.default_rng(203), 1400
    rho, rejected = best_rho(2 * PLANNED), np.zeros(EXPERIMENTS, bool)
    units = np.rint((np.arange(looks) + 1) / looks * PLANNED).astype(int)
    kc, kt = np.zeros(EXPERIMENTS), np.zeros(EXPERIMENTS)
    for n, step in zip(units, np.diff(units, prepend=0), strict=True):
        kc += random.binomial(step, 0.03, EXPERIMENTS)
        kt += random.binomial(step, 0.03, EXPERIMENTS)
        z = np.nan_to_num(two_proportions(kc, n, kt, n).statistic)
        rejected |= np.abs(z) > float(multiplier(2 * n, rho))
    assert rejected.mean() <= 0.054


def test_a_ramp_with_drift_rejects_at_most_six_percent() -> None:
    random = np.random.default_rng(204)
    kc, nc, kt, nt, weights = ramp(random, EXPERIMENTS, drift=0.2)
    by_period = cochran_mantel_haenszel(kc, nc, kt, nt)
    assert np.mean(by_period.p_value < 0.05) <= 0.06
    assert abs(np.mean(by_period.estimate / by_period.standard_error)) < 0.1
    covered = (by_period.lower <= 0) & (by_period.upper >= 0)
    assert covered.mean() >= 0.94
    alarms = [check_split(np.stack([c, t], -1), weights).blocks for c, t in zip(nc, nt, strict=True)]
    assert np.mean(alarms) <= 0.002


def test_late_labels_reject_at_most_six_percent() -> None:
    window, day = 10, 28
    units, wrong, labelled, in_window = late_labels(np.random.default_rng(205), EXPERIMENTS, window=window, day=day)
    naive = two_proportions(wrong[:, 0].sum(-1), labelled[:, 0].sum(-1), wrong[:, 1].sum(-1), labelled[:, 1].sum(-1))
    assert np.mean(naive.p_value < 0.05) > 0.5
    old = day - np.arange(day) - 1 >= window
    period = np.arange(day) < day - 14

    def by_period(counts: Any) -> Any:
        return np.stack([(counts * (old & period)).sum(-1), (counts * (old & ~period)).sum(-1)], -1)

    kc, kt = by_period(in_window[:, 0]), by_period(in_window[:, 1])
    nc, nt = by_period(units[:, 0]), by_period(units[:, 1])
    matured = cochran_mantel_haenszel(kc, nc, kt, nt)
    assert np.mean(matured.p_value < 0.05) <= 0.06
    assert abs(np.mean(matured.estimate)) < 0.001
    assert np.mean((matured.lower <= 0) & (matured.upper >= 0)) >= 0.94


@pytest.mark.parametrize("n", [2_000, 20_000])
def test_p99_differences_cover_94_to_97_percent(n: int) -> None:
    random, experiments = np.random.default_rng(206), 2000
    shift = 1.1
    truth = float(np.exp(0.6 * 2.3263478740408408)) * 0.1 * (shift - 1)
    covered = np.zeros(experiments, bool)
    for i in range(experiments):
        arms = [ExponentialHistogram.from_values(0.1 * s * random.lognormal(0, 0.6, n)) for s in (1.0, shift)]
        result = quantile_difference(*arms, quantiles=[0.99])
        covered[i] = result.lower[0] <= truth <= result.upper[0]
    assert 0.94 <= covered.mean() <= 0.97


def _proportions(random: np.random.Generator, p1: float, p2: float, ratio: float, power: float) -> Any:
    size = plan.sample_size(p1, p2, ratio=ratio, power=power)
    kc, kt = random.binomial(size.control, p1, EXPERIMENTS), random.binomial(size.treatment, p2, EXPERIMENTS)
    return two_proportions(kc, size.control, kt, size.treatment)


def _normal_arm(random: np.random.Generator, n: int, mean: float, sd: float) -> Moments:
    """Sample mean and variance of n normal values, drawn directly (they are independent)."""
    means_ = random.normal(mean, sd / np.sqrt(n), EXPERIMENTS)
    squares = sd**2 * random.chisquare(n - 1, EXPERIMENTS)
    return Moments.from_parts(np.full(EXPERIMENTS, n), (means_ * n)[:, None], squares[:, None, None])


def _means(random: np.random.Generator, delta: float, sd: float, second: float, ratio: float, power: float) -> Any:
    size = means.sample_size(delta, sd, sd_treatment=second, ratio=ratio, power=power)
    return welch(_normal_arm(random, size.control, 1.0, sd), _normal_arm(random, size.treatment, 1.0 + delta, second))


def _clustered(random: np.random.Generator, icc: float, m: int) -> Any:
    clusters = design.clusters_needed(0.1, 1.0, m, icc).control
    sd = np.sqrt(icc + (1 - icc) / m)  # of a cluster's mean
    return welch(_normal_arm(random, clusters, 0.0, sd), _normal_arm(random, clusters, 0.1, sd))


def _paired(random: np.random.Generator, accuracy: float, target: float, apart: float) -> Any:
    n = int(np.ceil(paired_plan.mcnemar_inputs(accuracy, target, apart).value))
    d = target - accuracy
    gain, loss = (apart + d) / 2, (apart - d) / 2
    counts = random.multinomial(n, [accuracy - loss, loss, gain, 1 - accuracy - gain], EXPERIMENTS).T
    return mcnemar(PairedCounts.of(*counts))


def _paired_t(random: np.random.Generator, delta: float, sd: float) -> Any:
    n = int(np.ceil(paired_plan.paired_t_pairs(delta, sd).value))
    return paired_t(_normal_arm(random, n, delta, sd))


def _of_users(random: np.random.Generator, users: int, experiments: int, lift: float) -> tuple[Any, Any]:
    taste = random.beta(4, 16, (experiments, users))
    views = random.poisson(9, taste.shape) + 1
    return random.binomial(views, np.clip(taste * (1 + lift), 0, 1)).astype(float), views.astype(float)


def _ratio(random: np.random.Generator, lift: float, experiments: int = 5000) -> Any:
    history = Moments.of(*(x.ravel() for x in _of_users(random, 40_000, 1, 0.0)))
    lifted = Moments.of(*(x.ravel() for x in _of_users(random, 40_000, 1, lift)))
    spreads = means.ratio_sd(history), means.ratio_sd(lifted)
    size = means.sample_size(0.2 * lift, spreads[0], sd_treatment=spreads[1]).control
    group = np.repeat(np.arange(experiments), size)
    arms = []
    for effect in (0.0, lift):
        k, n = _of_users(random, size, experiments, effect)
        arms.append(ratio_of(Moments.by_group(group, experiments, k.ravel(), n.ravel()), 0, 1))
    return difference(independent(*arms))


def _revenue(random: np.random.Generator, lift: float, experiments: int = 5000) -> Any:
    """Skewed: one in five buys, for a lognormal sum."""
    mean = 0.2 * np.exp(0.5 * 0.8**2)
    sd = np.sqrt(0.2 * np.exp(2 * 0.8**2) - mean**2)
    size = means.sample_size(mean * lift, sd, sd_treatment=sd * (1 + lift)).control
    group = np.repeat(np.arange(experiments), size)
    arms = []
    for effect in (1.0, 1.0 + lift):
        values = random.lognormal(0, 0.8, experiments * size) * (random.random(experiments * size) < 0.2) * effect
        arms.append(mean_of(Moments.by_group(group, experiments, values)))
    return difference(independent(*arms))


def _sequential(random: np.random.Generator, p1: float, p2: float, looks: int, spending: str) -> Any:
    size = plan.sample_size(p1, p2).times(design.looks_factor(looks, spending=spending).value, "looks").control
    times = (np.arange(looks) + 1) / looks
    bounds = np.array([look.bound for look in boundaries(list(times), spending=spending)])
    control, n = cumulative(random, EXPERIMENTS, p1, size, times)
    treatment, _ = cumulative(random, EXPERIMENTS, p2, size, times)
    z = np.nan_to_num(two_proportions(control, n, treatment, n).statistic) * np.sign(p2 - p1)
    return (z >= bounds).any(axis=1)


def _grid() -> list[tuple[str, float, Callable[[np.random.Generator], Any]]]:
    designs: list[tuple[str, float, Callable[[np.random.Generator], Any]]] = []
    for p1, p2 in ((0.03, 0.036), (0.1, 0.115), (0.5, 0.53), (0.9, 0.92), (0.02, 0.016)):
        for ratio in (1.0, 0.5, 1 / 9):
            for power in (0.8, 0.9):
                name = f"shares {p1} {p2}, ratio {ratio:.2f}, power {power}"
                designs.append((name, power, lambda r, a=p1, b=p2, q=ratio, w=power: _proportions(r, a, b, q, w)))
    for delta, sd, second in ((0.5, 1.0, 1.0), (0.1, 1.0, 1.0), (0.3, 1.0, 2.0)):
        for ratio in (1.0, 0.25):
            name = f"means {delta}, {sd} and {second}, ratio {ratio}"
            designs.append((name, 0.8, lambda r, d=delta, s=sd, t=second, q=ratio: _means(r, d, s, t, q, 0.8)))
    for icc, m in ((0.05, 5), (0.2, 10), (0.02, 20), (0.5, 4)):
        designs.append((f"clusters of {m}, ICC {icc}", 0.8, lambda r, i=icc, k=m: _clustered(r, i, k)))
    for apart in (0.03, 0.05, 0.1):
        designs.append((f"pairs, {apart} apart", 0.8, lambda r, x=apart: _paired(r, 0.92, 0.93, x)))
        designs.append((f"pairs down, {apart} apart", 0.8, lambda r, x=apart: _paired(r, 0.8, 0.79, x)))
    designs += [(f"paired t {d}", 0.8, lambda r, d=d: _paired_t(r, d, 1.0)) for d in (0.1, 0.3, 0.5)]
    for lift in (0.1, 0.15):
        designs.append((f"ratio of users {lift}", 0.8, lambda r, x=lift: _ratio(r, x)))
        designs.append((f"skewed revenue {lift}", 0.8, lambda r, x=lift: _revenue(r, x + 0.05)))
    for looks in (3, 7, 14):
        for spending in ("obrien_fleming", "pocock"):
            name = f"{looks} looks, {spending}"
            designs.append((name, 0.8, lambda r, k=looks, s=spending: _sequential(r, 0.1, 0.115, k, s)))
    designs.append(("28 looks", 0.8, lambda r: _sequential(r, 0.03, 0.036, 28, "obrien_fleming")))
    return designs


GRID = _grid()


def test_the_grid_has_sixty_designs() -> None:
    assert len(GRID) == 60


@pytest.mark.parametrize(("name", "promised", "simulate"), [pytest.param(*row, id=row[0]) for row in GRID])
def test_planned_power_is_the_simulated_power(
    name: str, promised: float, simulate: Callable[[np.random.Generator], Any]
) -> None:
    result = simulate(np.random.default_rng(zlib.crc32(name.encode())))
    rejected = result if isinstance(result, np.ndarray) else result.p_value < 0.05
    assert rejected.mean() == pytest.approx(promised, abs=0.015)


def test_stratified_means_of_skewed_values_keep_their_level() -> None:
    random, experiments = np.random.default_rng(208), 2500
    arms = []
    for sizes in ((990, 900, 500), (30, 100, 500)):
        period = np.concatenate([np.full(n, i) for i, n in enumerate(sizes)])
        values = random.lognormal(0, 0.5, (experiments, period.size)) * np.array([1.0, 1.2, 0.8])[period]
        group = (np.arange(experiments)[:, None] * 3 + period).ravel()
        cells = Moments.by_group(group, 3 * experiments, values.ravel())
        arms.append(
            mean_of(Moments(cells.n.reshape(-1, 3), cells.sums.reshape(-1, 3, 1), cells.centred.reshape(-1, 3, 1, 1)))
        )
    result = difference(combine_periods(independent(*arms)))
    assert np.mean(result.p_value < 0.05) == pytest.approx(0.05, abs=0.014)
