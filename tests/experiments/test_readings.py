"""What a readout says beside its verdict: ranks, what a mistake would cost, clusters, and how long it takes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from django.test import Client
from scipy import stats

from apps.experiments.domain.check import design_parse
from apps.experiments.domain.design import Metric
from apps.experiments.domain.pace import daily_units
from apps.experiments.domain.samples import Sample, cluster_effects, ranks_show
from apps.experiments.domain.words import MetricKind
from apps.experiments.services import samples
from apps.experiments.services.designs import design_size
from apps.experiments.services.lifecycle import experiment_stop
from apps.kernel.stats.planning.pace import days_left
from apps.kernel.stats.ranks import mann_whitney, mann_whitney_periods
from tests.cast import make_user
from tests.experiments.lab import Lab, design
from tests.fakes.targets import ALICE

SPEND = {"key": "spend", "kind": "mean", "event": "purchase", "cap_upper": 60.0}
MEANS = {"primary": "spend", "baseline": 20.0, "spread": 10.0, "effect_relative": 0.1}
SECONDS = {"key": "p90", "kind": "quantile", "event": "answer", "quantile": 0.9, "higher_is_better": False}


def test_ranks_are_scipys_over_the_units_as_they_came(lab: Lab) -> None:
    experiment = lab.running(metrics=[SPEND], **MEANS)
    rng = np.random.default_rng(8)
    lab.clock.forward(60)
    units = [f"user-{index}" for index in range(400)]
    values = rng.exponential(20, 400)
    lab.expose(experiment, units)
    lab.happen(experiment, units[:300], values=[float(x) for x in values[:300]])
    values = np.minimum(np.where(np.arange(400) < 300, values, 0.0), 60.0)  # capped; nothing bought is nothing spent
    arms = np.array(lab.arms(experiment, units))
    ranks = lab.look(experiment).result["primary"]["ranks"]
    theirs = stats.mannwhitneyu(values[arms == "treatment"], values[arms == "control"])
    assert ranks["p_value"] == pytest.approx(theirs.pvalue, rel=1e-9)
    sizes = (int((arms == "control").sum()), int((arms == "treatment").sum()))
    assert ranks["estimate"] == pytest.approx(theirs.statistic / (sizes[0] * sizes[1]), rel=1e-9)
    assert (ranks["units"]["control"], ranks["units"]["treatment"], ranks["is_sample"]) == (*sizes, False)


def test_a_sample_is_bounded_and_says_that_it_is_one(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "MOST_UNITS", 40)
    experiment = lab.running(metrics=[SPEND], **MEANS)
    lab.clock.forward(60)
    units = [f"user-{index}" for index in range(200)]
    lab.expose(experiment, units)
    lab.happen(experiment, units, values=[float(index % 17) for index in range(200)])
    ranks = lab.look(experiment).result["primary"]["ranks"]
    assert (ranks["units"], ranks["is_sample"]) == ({"control": 40, "treatment": 40}, True)


def test_ranks_stay_inside_their_period() -> None:
    """Days with a high level and another split: together they would rank the days, not the versions."""
    rng = np.random.default_rng(3)
    wrong = 0
    for _ in range(200):
        control = [rng.normal(0, 1, 200), rng.normal(3, 1, 40)]
        treatment = [rng.normal(0, 1, 40), rng.normal(3, 1, 200)]
        wrong += float(mann_whitney_periods(control, treatment).p_value) < 0.05
        assert float(mann_whitney(np.concatenate(control), np.concatenate(treatment)).p_value) < 1e-6
    assert wrong <= 20
    alone = mann_whitney_periods([[1, 2, 3, 4.0]], [[2, 3, 5, 6.0]])
    assert float(alone.p_value) == float(mann_whitney([1, 2, 3, 4.0], [2, 3, 5, 6.0]).p_value)
    assert ranks_show(Metric("m", MetricKind.MEAN), Sample(), [1], alpha=0.05) is None


def test_the_loss_of_a_choice_is_its_posterior_mean(lab: Lab) -> None:
    experiment = lab.running(minimum_days=1)
    lab.clock.forward(60)
    lab.sell(experiment, 1200, {"control": 0.2, "treatment": 0.22})
    result = lab.look(experiment).result
    found, decision = result["primary"]["difference"], result["decision"]
    draws = np.random.default_rng(1).normal(found["estimate"], found["standard_error"], 2_000_000)
    assert decision["expected_loss"]["ship"] == pytest.approx(np.maximum(-draws, 0).mean(), rel=0.01)
    assert decision["expected_loss"]["keep"] == pytest.approx(np.maximum(draws, 0).mean(), rel=0.01)
    assert decision["chance_better"] == pytest.approx((draws > 0).mean(), abs=0.002)


def test_where_less_is_better_the_loss_of_shipping_is_that_of_more(lab: Lab) -> None:
    metric = {"key": "complaints", "kind": "proportion", "event": "purchase", "higher_is_better": False}
    experiment = lab.running(metrics=[metric], primary="complaints")
    lab.clock.forward(60)
    lab.sell(experiment, 600, {"control": 0.2, "treatment": 0.3})
    decision = lab.look(experiment).result["decision"]
    assert decision["expected_loss"]["ship"] > 10 * decision["expected_loss"]["keep"]
    assert decision["chance_better"] < 0.05


def test_a_quantile_of_values_that_resemble_each_other_is_less_sure(lab: Lab) -> None:
    """Every user has a pace of their own: twenty answers of one user are no twenty users."""
    conversion = {"key": "conversion", "kind": "proportion", "event": "purchase"}
    experiment = lab.running(metrics=[conversion, SECONDS], secondary=["p90"])
    rng = np.random.default_rng(5)
    lab.clock.forward(60)
    units = [f"user-{index}" for index in range(120)]
    lab.expose(experiment, units)
    pace = rng.lognormal(-2, 0.6, 120)
    for _ in range(20):
        lab.happen(experiment, units, "answer", values=[float(x) for x in pace * rng.lognormal(0, 0.05, 120)])
    p90 = lab.look(experiment).result["secondary"][0]
    assert p90["arms"]["control"]["units"] + p90["arms"]["treatment"]["units"] == 2400
    assert min(p90["clusters"].values()) > 5
    # 60 users an arm: what twenty times as many values would promise is not what they say
    width = p90["difference"]["upper"] - p90["difference"]["lower"]
    users = [np.quantile(rng.choice(pace, 60), 0.9) - np.quantile(rng.choice(pace, 60), 0.9) for _ in range(400)]
    assert width > 2.5 * np.std(users)


def test_one_value_a_unit_needs_no_design_effect() -> None:
    metric = Metric("p90", MetricKind.QUANTILE, quantile=0.9)
    assert cluster_effects(metric, Sample([(1, 0, [0.1]), (1, 1, [0.2])])) is None
    assert cluster_effects(metric, Sample([(1, 0, [0.1, 0.1])] * 9)) is None  # an arm without any


def test_days_are_whole_and_begin_with_the_start() -> None:
    hours = [(10, 5.0), (11, 1.0), (33, 2.0), (34, 4.0), (58, 9.0)]
    assert daily_units(hours, 10 * 3600 + 600, 10 * 3600 + 2 * 86_400) == [8.0, 4.0]
    assert daily_units(hours, 10 * 3600, 10 * 3600 + 600) == []


@pytest.mark.parametrize("decline", [0.0, 0.3, 0.6])
def test_the_range_of_days_holds_the_truth_as_often_as_it_says(decline: float) -> None:
    rng = np.random.default_rng(6)
    day = np.arange(1, 40)
    inside = 0
    for _ in range(150):
        noise = np.exp(rng.normal(0, 0.15, day.size) - 0.15**2 / 2)
        came = rng.poisson(2000 * day**-decline * noise).astype(float)
        left = days_left(list(came[:10]), float(came[10:24].sum()))
        assert left is not None
        assert left.soonest is not None
        inside += left.soonest <= 14 <= (left.latest or 10**6)
    assert inside / 150 > 0.72  # 80 % is promised, whole days make it wider


def test_few_days_and_no_days_say_what_they_can() -> None:
    assert days_left([], 10) is None
    assert days_left([0.0, 0.0], 10) is None
    first = days_left([100.0], 300)
    assert first is not None
    assert (first.likely, first.decline) == (3, 0.0)
    there = days_left([100.0, 90.0], -5)
    assert there is not None
    assert (there.likely, there.latest) == (0, 0)
    never = days_left([1.0], 10**9)
    assert never is not None
    assert never.likely is None
    with pytest.raises(ValueError, match="new_per_day"):
        days_left([-1.0], 10)


def test_the_curve_of_the_last_experiment_plans_the_next_one(lab: Lab) -> None:
    experiment = lab.running(coverage_bp=5000)
    for day in range(6):
        lab.clock.forward(3600)
        lab.sell(experiment, 400 - 40 * day, {"control": 0.2, "treatment": 0.2}, start=1000 * day)
        lab.clock.forward(23 * 3600)
    result = lab.look(experiment).result
    pace = result["pace"]
    assert len(pace["daily"]) == 6
    assert pace["total"][-1] == result["units"]["total"]
    assert pace["days_left"]["soonest"] <= pace["days_left"]["likely"] <= pace["days_left"]["latest"]
    experiment_stop(actor=ALICE, experiment_id=experiment.pk, reason="next one")
    planned = design_size(actor=ALICE, endpoint_id=lab.site.endpoint.pk, design=design(coverage_bp=10_000))
    assert planned.is_measured
    assert planned.pace is not None
    assert planned.pace.experiment == experiment.pk
    assert sum(planned.pace.daily) == pytest.approx(2 * pace["total"][-1])  # half took part
    assert planned.sizing.days is not None
    assert "measured curve" in planned.sizing.days_formula
    assert planned.left is not None
    half = design_size(actor=ALICE, endpoint_id=lab.site.endpoint.pk, design=design(coverage_bp=2500))
    assert half.left is not None
    assert half.left.likely is None or half.left.likely > (planned.left.likely or 0)
    by_session = design_parse(design(unit="session")).to_json()
    assert design_size(actor=ALICE, endpoint_id=lab.site.endpoint.pk, design=by_session).pace is None


def test_the_page_offers_files_and_lines_to_copy(lab: Lab) -> None:
    experiment = lab.running(metrics=[SPEND], **MEANS)
    client = Client()
    client.force_login(make_user("alice"))
    nothing = client.get(f"/experiments/{experiment.pk}/take/")
    assert (nothing.status_code, "Nothing was read yet" in nothing.content.decode()) == (409, True)
    lab.clock.forward(60)
    units = [f"user-{index}" for index in range(60)]
    lab.expose(experiment, units)
    lab.happen(experiment, units, values=[float(index) for index in range(60)])
    lab.look(experiment)
    page = client.get(f"/experiments/{experiment.pk}/").content.decode()
    assert f"/api/v1/experiments/{experiment.pk}&quot;" in page  # the Python lines name this experiment
    assert page.count("data-copy") >= 3
    result = client.get(f"/experiments/{experiment.pk}/result/").content.decode()
    assert "usually larger" in result
    taken = {kind: client.get(f"/experiments/{experiment.pk}/take/?as={kind}") for kind in ("json", "csv", "bundle")}
    assert json.loads(taken["json"].content)["experiment"]["id"] == experiment.pk
    assert taken["csv"].content.startswith(b"role,metric")
    assert taken["bundle"].content.startswith(b"PK")
    assert all("attachment" in one["Content-Disposition"] for one in taken.values())
    assert client.get(f"/experiments/{experiment.pk}/take/?as=exe").status_code == 422
