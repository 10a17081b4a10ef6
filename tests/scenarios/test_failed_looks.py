"""When the engine itself fails at one rollout: seen on its row, no other rollout is held up, no command is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apps.audit.models import Event
from apps.kernel.errors import Unavailable
from apps.kernel.models import OutboxEntry
from apps.kernel.verdicts import Verdict
from apps.rollouts.models import Rollout
from apps.rollouts.selectors import engine_fault, engine_faults
from apps.rollouts.services.claim import FAILED_LATER
from apps.rollouts.services.current import rollout_current
from apps.telemetry.models import Slot
from tests.fakes.targets import make_site
from tests.scenarios.stage import Stage, open_stage

pytestmark = pytest.mark.django_db


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with open_stage(tmp_path) as opened:
        yield opened


@pytest.fixture
def baking(stage: Stage) -> Rollout:
    rollout = stage.start(stage.version("1.1.0"))
    stage.run(60, until="baking", rollout=rollout)
    return rollout


def spoil(rollout: Rollout) -> dict[str, Any]:
    """A plan that no code can read; returns the one that was there."""
    plan: dict[str, Any] = Rollout.objects.values_list("plan", flat=True).get(pk=rollout.pk)
    Rollout.objects.filter(pk=rollout.pk).update(plan=plan | {"strategy": "wishful"})
    return plan


def mend(rollout: Rollout, plan: dict[str, Any]) -> None:
    Rollout.objects.filter(pk=rollout.pk).update(plan=plan)


def sibling(stage: Stage, rollout: Rollout) -> Rollout:
    """The same rollout at another endpoint, due in the same chunk."""
    other = make_site(name="other")
    row = Rollout.objects.get(pk=rollout.pk)
    row.pk, row.endpoint = "ro_sibling", other.endpoint
    row.reason = ""
    row.save(force_insert=True)
    return row


def test_a_row_that_cannot_be_read_stops_only_itself_and_says_so(stage: Stage, baking: Rollout) -> None:
    other = sibling(stage, baking)
    plan = spoil(baking)
    OutboxEntry.objects.all().delete()
    stage.run(2)
    failed = stage.reload(baking)
    assert failed.look_error == "ValueError: 'wishful' is not a valid Strategy"
    assert (failed.phase, failed.weight_bp) == ("baking", 500)
    fault = engine_fault(failed)
    assert fault is not None
    assert (fault.verdict, fault.evidence["since"]) == (Verdict.ERROR, failed.look_failed_at)
    assert fault.reason.startswith("the engine failed on this: ValueError")
    assert [one.pk for one in engine_faults()] == [baking.pk]
    assert stage.reload(other).reason  # the one beside it was looked at
    assert OutboxEntry.objects.filter(name=f"rollout:{baking.pk}").exists()
    mend(baking, plan)
    stage.run(FAILED_LATER + 1)
    well = stage.reload(baking)
    assert (well.look_error, well.look_failed_at, engine_fault(well)) == ("", None, None)
    stage.run(200, rollout=baking)
    assert stage.reload(baking).phase == "promoted"


def test_a_failure_that_stays_the_same_is_written_once(stage: Stage, baking: Rollout) -> None:
    spoil(baking)
    stage.run(2)
    since = stage.reload(baking).look_failed_at
    OutboxEntry.objects.all().delete()
    stage.run(3 * FAILED_LATER)
    assert stage.reload(baking).look_failed_at == since
    assert not OutboxEntry.objects.filter(name=f"rollout:{baking.pk}").exists()


def test_damaged_telemetry_of_one_endpoint_is_that_rollouts_fault_alone(stage: Stage, baking: Rollout) -> None:
    other = sibling(stage, baking)
    Slot.objects.filter(endpoint="late-arrival", variant="v1-1-0").update(counts=b"\x01")
    stage.rate = 0
    stage.run(2)
    assert "do not fit" in stage.reload(baking).look_error
    assert stage.reload(other).look_error == ""


def test_a_bug_in_deciding_is_shown_and_the_page_can_still_be_drawn(
    stage: Stage, baking: Rollout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("apps.rollouts.services.tick.decide", broken)
    monkeypatch.setattr("apps.rollouts.services.current.decide", broken)
    stage.run(2)
    failed = stage.reload(baking)
    assert failed.look_error == "ZeroDivisionError: a bug"
    assert rollout_current(failed).reason == failed.reason


@pytest.mark.parametrize("command", ["abort", "roll_back"])
def test_going_back_is_kept_until_the_engine_can_look_again(stage: Stage, baking: Rollout, command: str) -> None:
    plan = spoil(baking)
    kept = stage.command(baking, command, reason="it smells")
    assert (kept.phase, kept.asked["command"]) == ("baking", command)
    assert kept.reason.startswith(f"{command} was asked for by Alice and will be carried out")
    assert "ValueError" in kept.reason
    assert Event.objects.filter(verb="rollout.command_kept", subject_id=baking.pk).count() == 1
    mend(baking, plan)
    stage.run(FAILED_LATER + 1, until="rolling_back", rollout=baking)
    stage.run(60, rollout=baking)
    ended = stage.reload(baking)
    assert (ended.phase, ended.asked) == ("aborted" if command == "abort" else "rolled_back", None)
    assert "it smells" in ended.reason
    assert stage.weights() == {"v1-0-0": 10_000}


def test_any_other_command_is_refused_with_the_way_out(stage: Stage, baking: Rollout) -> None:
    spoil(baking)
    with pytest.raises(Unavailable, match="Abort and roll back are possible") as refused:
        stage.command(baking, "pause")
    assert (refused.value.code, refused.value.is_retryable) == ("look_failed", True)
    assert stage.reload(baking).asked is None
