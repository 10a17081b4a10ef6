"""Experiments split by request: the gateway draws the lot, telemetry counts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from apps.experiments.models import Experiment
from apps.kernel.errors import InvalidInput
from apps.kernel.stats.histogram import ExponentialHistogram
from apps.targets.selectors import plan_of
from apps.telemetry.domain.batch import SlotBatch, SlotDelta
from apps.telemetry.services.slots import slots_add
from tests.experiments.lab import Lab

ERRORS = {"key": "errors", "kind": "proportion", "source": "errors", "higher_is_better": False}
SLOW = {"key": "slow", "kind": "proportion", "source": "latency", "threshold_seconds": 0.5, "higher_is_better": False}
P99 = {"key": "p99", "kind": "quantile", "source": "latency", "quantile": 0.99, "higher_is_better": False}
DESIGN = {
    "unit": "request", "metrics": [ERRORS, SLOW, P99], "primary": "errors", "baseline": 0.02, "effect_relative": 0.5,
    "secondary": ["p99"], "guardrails": [{"metric": "slow", "limit": 0.05}], "minimum_days": 1,
}  # fmt: skip


def report(lab: Lab, experiment: Experiment, variant: str, total: int, bad: int, route: str = "weighted") -> np.ndarray:
    plan = plan_of(lab.site.reload())
    assert plan is not None
    seconds = np.random.default_rng(len(variant) + total + bad).lognormal(-3.0, 0.5, total)
    slot = int(lab.clock().timestamp()) // 10 * 10
    delta = SlotDelta(slot, route, plan.route.period, total, total - bad, 0, bad, 0, 0,
                      ExponentialHistogram.from_values(seconds))  # fmt: skip
    seq = int(lab.clock().timestamp()) + bad
    slots_add([SlotBatch(f"{variant}/{route}", seq, lab.site.endpoint.name, variant, (delta,))])
    return seconds


def test_errors_and_latencies_come_from_telemetry_of_the_split_alone(lab: Lab) -> None:
    experiment = lab.running(**DESIGN)
    plan = plan_of(lab.site.reload())
    assert plan is not None
    assert (dict(plan.route.weights_bp), dict(plan.route.arms), plan.route.failover_to) == (
        {"v1-0-0": 5000, "v1-1-0": 5000},
        {},
        None,
    )
    lab.clock.forward(3600)
    one = report(lab, experiment, "v1-0-0", 5030, 100)
    two = report(lab, experiment, "v1-1-0", 4970, 60)
    report(lab, experiment, "v1-1-0", 400, 400, route="forced")  # somebody's try is none of it
    lab.clock.forward(3600)
    look = lab.look(experiment)
    found = look.result["primary"]
    assert (found["arms"]["control"]["units"], found["arms"]["treatment"]["units"]) == (5030, 4970)
    assert found["arms"]["control"]["value"] == pytest.approx(100 / 5030)
    chi = stats.chi2_contingency([[100, 4930], [60, 4910]], correction=False)
    assert found["difference"]["statistic"] ** 2 == pytest.approx(chi.statistic * (9999 / 10_000), rel=1e-9)
    assert look.result["guardrails"][0]["verdict"] == "safe"
    p99 = look.result["secondary"][0]["arms"]
    assert p99["control"]["value"] == pytest.approx(np.quantile(one, 0.99), rel=0.03)
    assert p99["treatment"]["value"] == pytest.approx(np.quantile(two, 0.99), rel=0.03)
    assert look.result["health"]["srm"]["status"] == "ok"


def test_a_gateway_that_does_not_split_as_told_blocks_the_verdict(lab: Lab) -> None:
    experiment = lab.running(**DESIGN)
    lab.clock.forward(3600)
    report(lab, experiment, "v1-0-0", 6000, 100)
    report(lab, experiment, "v1-1-0", 4000, 60)
    assert lab.look(experiment).kind == "blocked"


def test_units_are_not_assigned_where_requests_are_split(lab: Lab) -> None:
    experiment = lab.running(**DESIGN)
    with pytest.raises(InvalidInput) as refused:
        lab.arms(experiment, ["a"])
    assert refused.value.fields[0].code == "split_by_request"
