"""Preflight as a service: who has nothing to check says so, what blocks is named, and nothing is changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from apps.kernel.errors import Conflict, DriverError, Forbidden, PolicyRefused
from apps.kernel.rest.preflight_schema import LEVELS
from apps.kernel.verdicts import Verdict
from apps.rollouts.models import Rollout
from apps.rollouts.services.lifecycle import rollout_command, rollout_start
from apps.rollouts.services.plan import RolloutPlan, rollout_plan
from apps.targets.domain.driver import TargetUnreachable
from apps.targets.domain.plan import EndpointPlan
from apps.targets.domain.preflight import Change, Check, PreflightReport, Weight
from apps.targets.drivers.fake import FakeDriver
from apps.targets.services.preflight import endpoint_preflight, endpoint_preflight_new
from tests.cast import make_actor
from tests.fakes.targets import ALICE
from tests.scenarios.stage import Stage, open_stage

pytestmark = pytest.mark.django_db
FULL_POOL = Check("capacity", Verdict.FAIL, "1 new pod, room for 0.", "Add a node.", {"new_pods": 1, "room_for": 0})
NO_NODES = Check("capacity", Verdict.NO_DATA, "Free capacity is unknown.", "Apply the ClusterRole.")
FINE = Check("rights", Verdict.PASS, "All rights are there.")


@pytest.fixture
def stage(tmp_path: Path) -> Any:
    with open_stage(tmp_path) as opened:
        yield opened


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Gives the fake target the ability, and what it answers; the plans that it was asked about are kept."""
    asked: list[EndpointPlan] = []

    def arrange(answer: PreflightReport | Exception) -> list[EndpointPlan]:
        def preflight(self: FakeDriver, plan: EndpointPlan, *, seconds: float) -> PreflightReport:
            asked.append(plan)
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(FakeDriver, "preflight", preflight, raising=False)
        return asked

    return arrange


def plan(stage: Stage, version: Any, strategy: str = "canary") -> RolloutPlan:
    return rollout_plan(
        actor=ALICE, endpoint_id=stage.site.endpoint.pk, version_id=version.pk, strategy=strategy, profile="fast"
    )


def test_a_target_that_has_nothing_to_check_says_so(stage: Stage) -> None:
    version = stage.version("1.1.0")
    report = endpoint_preflight(actor=ALICE, endpoint_id=stage.site.endpoint.pk, version_id=version.pk)
    assert not report.is_supported
    assert report.checks[0].detail == "Targets of kind fake have nothing to check beforehand."
    assert plan(stage, version).is_startable


def test_what_is_asked_about_is_the_peak_with_the_first_share(stage: Stage, says: Any) -> None:
    asked = says(PreflightReport((FINE,), (Change("Deployment", "x", "create"),)))
    planned = plan(stage, stage.version("1.1.0"))
    assert planned.preflight is not None
    assert planned.preflight.changes[0].what == "create"
    (one,) = asked
    assert dict(one.route.weights_bp) == {"v1-0-0": 9_500, "v1-1-0": 500}
    assert one.generation == stage.site.reload().generation + 1
    assert [check.code for check in planned.checks if check.code.startswith("preflight")] == ["preflight"]
    plan(stage, stage.version("1.2.0"), "recreate")
    assert [variant.key for variant in asked[-1].variants] == ["v1-2-0"]
    plan(stage, stage.version("1.3.0"), "shadow")
    assert asked[-1].route.mirror is not None


def test_what_blocks_refuses_the_start_and_is_named(stage: Stage, says: Any) -> None:
    says(PreflightReport((FINE, FULL_POOL)))
    version = stage.version("1.1.0")
    assert [block.code for block in plan(stage, version).blocks] == ["preflight_capacity"]
    with pytest.raises(PolicyRefused) as refused:
        stage.start(version)
    assert refused.value.code == "preflight_capacity"
    assert refused.value.detail == "1 new pod, room for 0. Add a node."
    assert refused.value.extra["room_for"] == 0
    assert not Rollout.objects.exists()


def test_what_could_not_be_asked_warns_and_blocks_nothing(stage: Stage, says: Any) -> None:
    says(PreflightReport((FINE, NO_NODES)))
    planned = plan(stage, stage.version("1.1.0"))
    assert planned.is_startable
    assert [check.code for check in planned.checks if check.level == "warn"] == ["preflight_capacity"]


@pytest.mark.parametrize(
    ("error", "way_out"),
    [
        (TargetUnreachable("target_unreachable", "No answer.", is_retryable=True), "Try again."),
        (DriverError("not_allowed", "It may not be asked."), "Correct the target's connection"),
    ],
)
def test_a_target_that_cannot_be_asked_blocks(stage: Stage, says: Any, error: DriverError, way_out: str) -> None:
    says(error)
    (block,) = plan(stage, stage.version("1.1.0")).blocks
    assert block.code == "preflight_connection"
    assert way_out in block.detail


def test_a_target_is_not_asked_about_a_plan_that_is_blocked_already(stage: Stage, says: Any) -> None:
    asked = says(PreflightReport((FINE,)))
    assert plan(stage, stage.site.stable).preflight is None
    assert asked == []


def test_the_way_back_needs_no_preflight(stage: Stage, says: Any) -> None:
    rollout = stage.start(stage.version("1.1.0"))
    stage.run(300, rollout=rollout)
    assert stage.reload(rollout).phase == "promoted"
    says(PreflightReport((FULL_POOL,)))
    back = rollout_command(actor=ALICE, rollout_id=rollout.pk, command="roll_back", reason="it is slow")
    assert back.pk != rollout.pk
    with pytest.raises(PolicyRefused, match="room for 0"):
        rollout_start(
            actor=ALICE, endpoint_id=stage.site.endpoint.pk, version_id=stage.version("1.2.0").pk, strategy="canary",
            supersede="queue",
        )  # fmt: skip


def test_a_new_endpoint_is_asked_about_and_nothing_of_another_is_shown(stage: Stage, says: Any) -> None:
    asked = says(PreflightReport((FINE,)))
    version, target = stage.version("1.1.0"), stage.site.target
    endpoint_preflight_new(actor=ALICE, target_id=target.pk, name="another", version_id=version.pk)
    assert asked[-1].endpoint == "another"
    with pytest.raises(Conflict):
        endpoint_preflight_new(actor=ALICE, target_id=target.pk, name="late-arrival", version_id=version.pk)
    with pytest.raises(Forbidden):
        endpoint_preflight_new(actor=make_actor("bob"), target_id=target.pk, name="new", version_id=version.pk)


def test_the_doors_know_every_weight_of_a_check() -> None:
    assert list(LEVELS) == [weight.value for weight in Weight]
