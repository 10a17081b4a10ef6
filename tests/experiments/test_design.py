"""What a design must be, what it costs, and who may do what: bad input names its field and stores nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.experiments.domain.arm_header import arm_of_value, arm_value
from apps.experiments.domain.check import design_parse
from apps.experiments.domain.design import Design
from apps.experiments.domain.sizing import curve, power_at, sizing
from apps.experiments.domain.words import FOLLOWS, Status, may_follow
from apps.experiments.models import Experiment
from apps.experiments.services.designs import experiment_create
from apps.kernel.errors import Forbidden, InvalidInput, NotFound
from apps.targets.domain.driver import Capabilities, Support
from apps.targets.services.connect import target_probe
from tests.cast import make_actor
from tests.experiments.lab import CONVERSION, Lab, design
from tests.fakes.targets import ALICE

ERRORS = {"key": "errors", "kind": "proportion", "source": "errors", "higher_is_better": False}
SLOW = {"key": "slow", "kind": "proportion", "source": "latency", "higher_is_better": False}
BAD: list[tuple[dict[str, Any], str]] = [
    ({"hypothesis": " "}, "/design/hypothesis"),
    ({"weights_bp": {"control": 10_000, "treatment": 0}}, "/design/weights_bp/treatment"),
    ({"weights_bp": {"control": 5000, "treatment": 4000}}, "/design/weights_bp"),
    ({"coverage_bp": 0}, "/design/coverage_bp"),
    ({"alpha": 0.0}, "/design/alpha"),
    ({"alpha": 1.0}, "/design/alpha"),
    ({"power": 1.0}, "/design/power"),
    ({"power": 0.01}, "/design/power"),
    ({"baseline": 0.0}, "/design/baseline"),
    ({"baseline": 1.0}, "/design/baseline"),
    ({"baseline": None}, "/design/baseline"),
    ({"effect_relative": 0.0}, "/design/effect_relative"),
    ({"effect_relative": 9.0}, "/design/effect_relative"),
    ({"effect_absolute": 0.1}, "/design/effect_relative"),
    ({"primary": "revenue"}, "/design/primary"),
    ({"secondary": ["revenue"]}, "/design/secondary/0"),
    ({"metrics": [CONVERSION, CONVERSION]}, "/design/metrics/1/key"),
    ({"metrics": []}, "/design/metrics"),
    ({"metrics": [{**CONVERSION, "event": ""}]}, "/design/metrics/0/event"),
    ({"metrics": [{**CONVERSION, "quantile": 0.5}]}, "/design/metrics/0/quantile"),
    ({"metrics": [{**CONVERSION, "window_seconds": 5}]}, "/design/metrics/0/window_seconds"),
    ({"metrics": [{**CONVERSION, "cap_upper": 5.0}]}, "/design/metrics/0/cap_upper"),
    ({"metrics": [CONVERSION, SLOW]}, "/design/metrics/1/threshold_seconds"),
    ({"metrics": [CONVERSION, {**ERRORS, "kind": "mean"}]}, "/design/metrics/1/kind"),
    ({"metrics": [ERRORS], "primary": "errors"}, "/design/primary"),
    ({"metrics": [{**CONVERSION, "kind": "mean"}]}, "/design/spread"),
    ({"guardrails": [{"metric": "conversion"}]}, "/design/guardrails/0"),
    ({"guardrails": [{"metric": "conversion", "margin": -1.0}]}, "/design/guardrails/0/margin"),
    ({"guardrails": [{"metric": "conversion", "limit": 0.1}]}, "/design/guardrails/0/limit"),
    ({"guardrails": [{"metric": "nothing", "margin": 0.1}]}, "/design/guardrails/0/metric"),
    ({"planned_total": 1}, "/design/planned_total"),
    ({"minimum_days": 0}, "/design/minimum_days"),
    ({"dimensions": ["Country!"]}, "/design/dimensions/0"),
    ({"unit": "household"}, "/design"),
]


@pytest.mark.parametrize(("changes", "pointer"), BAD, ids=[pointer for _, pointer in BAD])
def test_every_fault_names_its_field(changes: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        design_parse(design(**changes))
    assert pointer in [fault.pointer for fault in refused.value.fields]


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(InvalidInput) as refused:
        design_parse(design(alpha=2.0, baseline=0.0, effect_relative=0.0, hypothesis=""))
    pointers = {fault.pointer.rpartition("/")[2] for fault in refused.value.fields}
    assert pointers == {"alpha", "baseline", "effect_relative", "hypothesis"}


def test_a_design_is_the_same_after_a_round_trip_and_its_hash_sees_every_change() -> None:
    first = design_parse(design())
    assert Design.from_json(first.to_json()) == first
    assert design_parse(design(alpha=0.01)).design_hash != first.design_hash


def test_the_planner_says_13914_and_what_looks_and_splits_cost() -> None:
    one = sizing(design_parse(design(baseline=0.03, effect_relative=0.2, looks=1)), units_per_day=3000.0)
    assert (one.size.control, one.size.treatment, one.total) == (13_914, 13_914, 27_828)
    assert one.factor.value == pytest.approx(1.0)
    many = sizing(design_parse(design(baseline=0.03, effect_relative=0.2)), units_per_day=3000.0)
    assert 1.02 < many.factor.value < 1.06
    assert many.days == 14
    uneven = sizing(design_parse(design(weights_bp={"control": 9000, "treatment": 1000})))
    assert uneven.split.value == pytest.approx(2.7778, rel=1e-4)
    assert uneven.days is None  # nobody said how many come


@pytest.mark.parametrize(
    ("changes", "per_day"),
    [({"effect_relative": None, "effect_absolute": 1e-12}, None), ({}, 1e30)],
    ids=["an effect of nothing", "more units than there are"],
)
def test_a_plan_that_no_column_can_hold_is_refused_in_words(changes: dict[str, Any], per_day: float | None) -> None:
    with pytest.raises(InvalidInput, match="more than the 1,000,000,000,000 that can be counted"):
        sizing(design_parse(design(**changes)), units_per_day=per_day)


MEAN = {"metrics": [{"key": "spend", "kind": "mean", "event": "purchase"}], "primary": "spend", "effect_relative": None}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({**MEAN, "spread": 1.0, "effect_absolute": 1e-200}, "effect of 1e-200 cannot be reckoned with"),
        ({**MEAN, "spread": 1e299, "effect_absolute": 1e299}, "effect of 1e\\+299 cannot be reckoned with"),
        ({**MEAN, "spread": 1e-200, "effect_absolute": 1.0}, "spread of 1e-200 cannot be reckoned with"),
        ({**MEAN, "spread": 1.0, "effect_absolute": 1e9}, "an effect of 1e\\+09 standard deviations"),
        ({"baseline": 1e-160, "effect_relative": 1e-16}, "an effect of 1e-176 is too small to plan for"),
        ({**MEAN, "spread": 1.0, "baseline": 1e299, "effect_relative": 1e299}, "inf"),
    ],
)
def test_numbers_beyond_arithmetic_are_refused_in_words(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        sizing(design_parse(design(**changes)))


def test_a_thousand_looks_are_planned_in_no_time() -> None:
    many, some = (sizing(design_parse(design(looks=looks))) for looks in (1000, 200))
    assert many.total == some.total


@pytest.mark.parametrize("traffic", [{"units_per_day": 1e-306}, {"accumulation": [1e-306, 2e-306]}])
def test_traffic_that_is_next_to_none_has_no_date(traffic: dict[str, Any]) -> None:
    found = sizing(design_parse(design()), **traffic)
    assert (found.days, found.days_formula.rpartition(": ")[2]) == (None, "never at this pace")


@given(st.floats(0.02, 0.6), st.floats(0.05, 0.5), st.integers(1000, 9000))
def test_the_promised_power_is_kept_and_the_curve_rises(baseline: float, effect: float, weight: int) -> None:
    parsed = design_parse(
        design(baseline=baseline, effect_relative=effect, weights_bp={"control": 10_000 - weight, "treatment": weight})
    )
    found = sizing(parsed)
    assert found.power_at_plan >= 0.8 - 1e-3
    lines = curve(parsed, found)["lines"]
    assert all(sorted(line["power"]) == line["power"] for line in lines)
    assert float(power_at(parsed, [found.total / found.factor.value])[0]) == pytest.approx(found.power_at_plan)


def test_a_signed_arm_is_known_and_a_forged_one_is_not() -> None:
    values = {arm: arm_value("secret", "ex_1", arm) for arm in ("control", "treatment")}
    assert arm_of_value(values["treatment"], values) == "treatment"
    assert arm_of_value(arm_value("other", "ex_1", "treatment"), values) is None
    assert arm_of_value("ex_1.treatment", values) is None
    assert len(values["control"]) < 128


def test_every_status_is_left_only_the_ways_that_are_written_down() -> None:
    assert set(FOLLOWS) == set(Status)
    assert not any(may_follow(Status.DECIDED, after) for after in Status)
    assert not any(may_follow(before, Status.STARTING) for before in Status if before is not Status.PLANNED)


def test_a_refused_draft_leaves_nothing_behind(lab: Lab) -> None:
    with pytest.raises(InvalidInput):
        lab.draft(alpha=7.0)
    assert not Experiment.objects.exists()


def test_who_may_only_look_cannot_design_and_a_stranger_does_not_see_the_endpoint(lab: Lab) -> None:
    asked = {
        "name": "mine", "endpoint_id": lab.site.endpoint.pk, "treatment_version_id": lab.treatment.pk,
        "design": design(),
    }  # fmt: skip
    with pytest.raises(Forbidden):
        experiment_create(actor=make_actor("bob"), **asked)
    with pytest.raises(NotFound):
        experiment_create(actor=make_actor("mallory"), **asked)


def test_a_target_that_only_splits_by_request_is_given_the_unit_request_only(lab: Lab) -> None:
    lab.site.world.capabilities = Capabilities(weights=Support.EXACT)
    target_probe(actor=ALICE, target_id=lab.site.target.pk)
    with pytest.raises(InvalidInput) as refused:
        lab.draft()
    assert refused.value.fields[0].pointer == "/design/unit"
    drafted = lab.draft(unit="request", metrics=[ERRORS], primary="errors", baseline=0.02, effect_relative=0.5)
    assert drafted.status == "draft"
