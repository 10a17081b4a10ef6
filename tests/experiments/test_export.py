"""A bundle gives its decision again with scipy alone: another program, from the sums, to the sixth digit."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from apps.experiments.services.export import readout_bundle, readout_csv
from apps.experiments.services.lifecycle import experiment_extend
from tests.experiments.lab import Lab
from tests.fakes.targets import ALICE

SPEND = {"key": "spend", "kind": "mean", "event": "purchase"}
RATIO = {"key": "value", "kind": "ratio", "event": "purchase", "denominator": "view"}
MEANS = {"primary": "spend", "baseline": 20.0, "spread": 10.0, "effect_relative": 0.1}


def reproduce(lab: Lab, readout_id: str) -> str:
    name, raw = readout_bundle(actor=ALICE, readout_id=readout_id)
    folder = Path(lab.folder) / name
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        archive.extractall(folder)
    done = subprocess.run(
        [sys.executable, str(folder / "reproduce.py")], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("mode", ["group_sequential", "always_valid"])
def test_a_share_over_two_periods_and_several_looks_is_given_again(lab: Lab, mode: str) -> None:
    experiment = lab.running(mode=mode, coverage_bp=5000, minimum_days=1)
    lab.clock.forward(600)
    lab.sell(experiment, 900, {"control": 0.2, "treatment": 0.22})
    lab.look(experiment)
    experiment = experiment_extend(actor=ALICE, experiment_id=experiment.pk, coverage_bp=10_000, reason="more")
    lab.clock.forward(86_400 * 2)
    lab.sell(experiment, 900, {"control": 0.3, "treatment": 0.33}, start=900)
    look = lab.look(experiment)
    assert len(look.result["health"]["srm"]["periods"]) == 2
    assert "agrees" in reproduce(lab, look.pk)


@pytest.mark.parametrize("metric", [SPEND, {**SPEND, "has_covariate": True}, {**RATIO, "key": "spend"}])
def test_means_ratios_and_adjusted_means_are_given_again(lab: Lab, metric: dict[str, object]) -> None:
    experiment = lab.running(metrics=[metric], **MEANS)
    rng = np.random.default_rng(3)
    lab.clock.forward(60)
    units = [f"user-{index}" for index in range(400)]
    before = rng.normal(20, 5, 400)
    lab.expose(experiment, units, covariates=[float(x) for x in before])
    if metric["kind"] == "ratio":
        lab.happen(experiment, units, "view", values=[float(x) for x in rng.poisson(5, 400) + 1])
    lab.happen(experiment, units, values=[float(x) for x in before + rng.normal(3, 4, 400)])
    assert "agrees" in reproduce(lab, lab.look(experiment).pk)


def test_welch_over_one_period_is_scipys(lab: Lab) -> None:
    experiment = lab.running(metrics=[SPEND], **MEANS)
    rng = np.random.default_rng(5)
    lab.clock.forward(60)
    units = [f"user-{index}" for index in range(300)]
    values = rng.exponential(20, 300)
    lab.expose(experiment, units)
    lab.happen(experiment, units, values=[float(x) for x in values])
    arms = np.array(lab.arms(experiment, units))
    found = lab.look(experiment).result["primary"]["difference"]
    theirs = stats.ttest_ind(values[arms == "treatment"], values[arms == "control"], equal_var=False)
    interval = theirs.confidence_interval(0.95)
    assert found["statistic"] == pytest.approx(theirs.statistic, rel=1e-6)
    assert found["p_value"] == pytest.approx(theirs.pvalue, rel=1e-6)
    assert (found["lower"], found["upper"]) == pytest.approx((interval.low, interval.high), rel=1e-6)


def test_the_table_has_a_line_per_metric_and_says_what_is_undefined(lab: Lab) -> None:
    experiment = lab.running(metrics=[{"key": "conversion", "kind": "proportion", "event": "purchase"}, SPEND],
                             secondary=["spend"])  # fmt: skip
    lab.clock.forward(60)
    lab.expose(experiment, ["a", "b", "c"])
    rows = list(csv.DictReader(io.StringIO(readout_csv(lab.look(experiment)))))
    assert [(row["role"], row["metric"]) for row in rows] == [("primary", "conversion"), ("secondary", "spend")]
    assert rows[0]["undefined"] in {"zero_variance", "no_data"}
    assert json.dumps(rows)
