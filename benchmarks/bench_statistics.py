"""1,000 experiments x 10 metrics from stored statistics: intervals, sequential bounds, sample ratio, false discovery.

Beside two peers on the same numbers in one run: gbstats 0.8 (GrowthBook's library, in an environment of its own, since
it needs numpy 1) and the loop that one would write with scipy. Ours does more than both: it compares inside each period
of constant traffic and spends alpha by look. CPU seconds, rounds in turn.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from harness import ROOT, percentile, ratio, save, table
from scipy import stats

from apps.kernel.stats.arms import independent, mean_of
from apps.kernel.stats.confidence_sequence import confidence_sequence
from apps.kernel.stats.difference import difference
from apps.kernel.stats.means import welch
from apps.kernel.stats.moments import Moments
from apps.kernel.stats.multiple import benjamini_hochberg
from apps.kernel.stats.periods import combine_periods
from apps.kernel.stats.sequential import latest_boundaries, repeated_intervals
from apps.kernel.stats.srm import chi_square_p, log_bayes_factor

EXPERIMENTS, METRICS, PERIODS, LOOKS, ROUNDS = 1000, 10, 3, 14, 5
PLANNED, LIMIT_MS = 30_000, 150.0
PEER = ROOT / "build" / "peers" / "gbstats"


def statistics(random: np.random.Generator) -> tuple[Moments, Moments]:
    """Control and treatment, (experiments, metrics, periods): what is stored for normal values around 10."""
    arms = []
    for lift in (0.0, 0.02):
        n = random.integers(2_000, 5_000, (EXPERIMENTS, 1, PERIODS)).repeat(METRICS, axis=1)
        mean = random.normal(10.0 + lift, 3.0 / np.sqrt(n))
        squares = 9.0 * random.chisquare(n - 1)
        arms.append(Moments.from_parts(n, (mean * n)[..., None], squares[..., None, None]))
    return arms[0], arms[1]


def histories(random: np.random.Generator) -> list[list[float]]:
    """Each experiment has looked at times of its own; the last look is today's."""
    return [sorted(random.uniform(0.02, 0.98, LOOKS).round(4)) for _ in range(EXPERIMENTS)]


def ours(control: Moments, treatment: Moments, looks: list[list[float]], units: Any, weights: Any) -> dict[str, Any]:
    """A readout of everything."""
    result = difference(combine_periods(independent(mean_of(control), mean_of(treatment))))
    bounds = repeated_intervals(primaries_of(result), latest_boundaries(looks))
    total = (control.n + treatment.n).sum(-1)
    always = confidence_sequence(result, total, PLANNED)
    return {
        "p": result.p_value,
        "q": benjamini_hochberg(result.p_value),
        "bounds": bounds,
        "always": always,
        "srm": (chi_square_p(units, weights), log_bayes_factor(units, weights)),
    }


def primaries_of(result: Any) -> Any:
    """The comparison of each experiment's primary metric."""
    names = ("estimate", "standard_error", "statistic", "df", "p_value", "lower", "upper", "undefined")
    return replace(result, **{name: getattr(result, name)[:, 0] for name in names})


def scipy_loop(control: Moments, treatment: Moments, units: Any, weights: Any) -> Any:
    """One call per comparison, as a notebook does it."""
    p = np.empty(control.n.shape)
    spread = [np.sqrt(arm.covariance[..., 0, 0]) for arm in (control, treatment)]
    for i in range(p.shape[0]):
        for j in range(p.shape[1]):
            found = stats.ttest_ind_from_stats(
                treatment.mean[i, j, 0], spread[1][i, j], treatment.n[i, j],
                control.mean[i, j, 0], spread[0][i, j], control.n[i, j], equal_var=False,
            )  # fmt: skip
            p[i, j] = found.pvalue
        stats.false_discovery_control(p[i])
        stats.chisquare(units[i].sum(0), units[i].sum() * weights)
    return p


def peer_python() -> Path:
    """The interpreter of gbstats' own environment, made once."""
    python = PEER / "bin" / "python"
    if not (PEER / "installed").exists():
        print("Making an environment for gbstats 0.8.0 in build/peers (once)", flush=True)
        venv.create(PEER, with_pip=True, clear=True)
        subprocess.run(
            [str(python), "-m", "pip", "install", "-qq", "gbstats==0.8.0", "scipy<1.14"], check=True, timeout=600
        )
        (PEER / "installed").touch()
    return python


def gbstats(control: Moments, treatment: Moments) -> tuple[Any, float]:
    """Its results, (comparisons, 5), and its CPU seconds."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.npz", Path(folder) / "out.npz"
        columns = {}
        for name, arm in (("c", control), ("t", treatment)):
            columns |= {f"n{name}": arm.n, f"s{name}": arm.sums[..., 0]}
            columns[f"q{name}"] = arm.centred[..., 0, 0] + arm.sums[..., 0] ** 2 / arm.n
        np.savez(source, **columns)
        script = ROOT / "benchmarks" / "gbstats_peer.py"
        subprocess.run([str(peer_python()), str(script), str(source), str(target)], check=True, timeout=600)
        found = np.load(target)
        return found["results"], float(found["cpu"])


def cpu_of(work: Any) -> tuple[Any, float]:
    begun = time.process_time()
    return work(), time.process_time() - begun


def main() -> None:
    started = time.time()
    random = np.random.default_rng(20260105)
    control, treatment = statistics(random)
    units = np.stack([control.n[:, 0], treatment.n[:, 0]], -1)
    weights = np.array([0.5, 0.5])
    whole = control.merged(-1), treatment.merged(-1)
    mine, theirs, loops = [], [], []
    agreement = 0.0
    for _ in range(ROUNDS):
        looks = histories(random)
        latest_boundaries([times[:-1] for times in looks])  # earlier readouts of this worker; today's look is new
        _, seconds = cpu_of(lambda looks=looks: ours(control, treatment, looks, units, weights))
        mine.append(seconds)
        results, peer_seconds = gbstats(*whole)
        theirs.append(peer_seconds)
        p, seconds = cpu_of(lambda: scipy_loop(*whole, units, weights))
        loops.append(seconds)
        pooled = welch(*whole)
        agreement = max(
            agreement, *(float(np.max(np.abs(pooled.p_value - other))) for other in (p, results[:, 0].reshape(p.shape)))
        )
    cold_looks = histories(random)
    _, cold = cpu_of(lambda: ours(control, treatment, cold_looks, units, weights))
    rows = [
        ["ours", percentile(mine, 0.5) * 1000, 1.0],
        ["scipy loop (no intervals, no bounds)", percentile(loops, 0.5) * 1000, ratio(loops, mine)["median"]],
        ["gbstats (fixed and sequential t)", percentile(theirs, 0.5) * 1000, ratio(theirs, mine)["median"]],
        [f"ours after a restart ({LOOKS} looks each anew)", cold * 1000, cold / percentile(mine, 0.5)],
    ]
    table(f"{EXPERIMENTS:,} experiments x {METRICS} metrics, CPU", ("who", "ms", "times ours"), rows)
    print(f"\ngreatest difference of a p-value of Welch's t to either peer: {agreement:.1e}")
    figures = {"ours_s": mine, "scipy_s": loops, "gbstats_s": theirs, "ours_cold_s": cold, "agreement": agreement}
    figures |= {"scipy_to_ours": ratio(loops, mine), "gbstats_to_ours": ratio(theirs, mine)}
    save("statistics", figures, started=started)
    missed = percentile(mine, 0.5) * 1000 >= LIMIT_MS or agreement > 1e-9
    print(f"target {LIMIT_MS:.0f} ms and agreement to 1e-9: {'missed' if missed else 'met'}")
    sys.exit(missed)


if __name__ == "__main__":
    main()
