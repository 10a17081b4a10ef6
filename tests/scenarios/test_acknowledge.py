"""What went back needs somebody, until a person says that they know or a newer rollout of the endpoint has begun."""

from __future__ import annotations

from datetime import timedelta

import pytest

from apps.accounts.domain.roles import Role
from apps.accounts.services.access import actor_of
from apps.audit.models import Event
from apps.kernel.clock import now
from apps.kernel.errors import Conflict, Forbidden, NotFound
from apps.rollouts.domain.machine import Phase
from apps.rollouts.models import Rollout
from apps.rollouts.selectors import allowed_commands, rollouts_unacknowledged
from apps.rollouts.services.acknowledge import rollout_acknowledge
from tests.api.world import World, make_world
from tests.cast import make_user
from tests.fakes.targets import ALICE

pytestmark = pytest.mark.django_db


@pytest.fixture
def world(db: None, tmp_path: object) -> World:
    return make_world(tmp_path)  # type: ignore[arg-type]


def ended(world: World, phase: Phase = Phase.ROLLED_BACK, *, hours_ago: float = 100) -> Rollout:
    """A rollout that ended long ago, as the engine would have left it."""
    rollout = world.start()
    at = now() - timedelta(hours=hours_ago)
    Rollout.objects.filter(pk=rollout.pk).update(
        phase=phase, created_at=at, started_at=at, finished_at=at + timedelta(minutes=9), reason="too many errors"
    )
    return Rollout.objects.get(pk=rollout.pk)


def waiting() -> list[str]:
    return [rollout.pk for rollout in rollouts_unacknowledged()]


@pytest.mark.parametrize("phase", [Phase.ROLLED_BACK, Phase.FAILED, Phase.ABORTED])
def test_what_went_back_waits_for_a_person_however_long_ago_it_was(world: World, phase: Phase) -> None:
    rollout = ended(world, phase)
    assert waiting() == [rollout.pk]
    found = rollout_acknowledge(actor=ALICE, rollout_id=rollout.pk, reason="a new model is trained")
    assert found.acknowledged_by == ALICE.label
    assert waiting() == []


@pytest.mark.parametrize("phase", [Phase.PROMOTED, Phase.COMPLETED, Phase.SUPERSEDED])
def test_what_did_not_go_back_waits_for_nobody_and_cannot_be_acknowledged(world: World, phase: Phase) -> None:
    rollout = ended(world, phase)
    assert waiting() == []
    with pytest.raises(Conflict, match="only one that was rolled back") as refused:
        rollout_acknowledge(actor=ALICE, rollout_id=rollout.pk)
    assert refused.value.code == "nothing_to_acknowledge"


def test_a_newer_rollout_of_the_same_endpoint_ends_the_waiting_when_it_has_begun(world: World) -> None:
    rollout = ended(world)
    newer = world.start()
    assert waiting() == [rollout.pk]  # it is still in the queue, or behind a freeze window
    Rollout.objects.filter(pk=newer.pk).update(started_at=now(), phase=Phase.PREPARING)
    assert waiting() == []


def test_a_second_acknowledgement_changes_nothing(world: World) -> None:
    rollout = ended(world)
    first = rollout_acknowledge(actor=ALICE, rollout_id=rollout.pk, reason="seen")
    again = rollout_acknowledge(actor=actor_of(make_user("olga")), rollout_id=rollout.pk)
    assert (again.acknowledged_at, again.acknowledged_by) == (first.acknowledged_at, ALICE.label)
    event = Event.objects.get(verb="rollout.acknowledged", subject_id=rollout.pk)
    assert (event.detail["reason"], event.detail["ended"]) == ("seen", "too many errors")


def test_it_is_written_with_its_audit_event_or_not_at_all(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: object) -> None:
        raise RuntimeError

    rollout = ended(world)
    monkeypatch.setattr("apps.rollouts.services.acknowledge.event_record", broken)
    with pytest.raises(RuntimeError):
        rollout_acknowledge(actor=ALICE, rollout_id=rollout.pk)
    assert waiting() == [rollout.pk]
    assert not Event.objects.filter(verb="rollout.acknowledged").exists()


def test_whoever_keeps_rollouts_safe_may_acknowledge_and_a_viewer_may_not(world: World) -> None:
    rollout = ended(world)
    with pytest.raises(Forbidden):
        rollout_acknowledge(actor=actor_of(make_user("bob")), rollout_id=rollout.pk)
    with pytest.raises(NotFound):
        rollout_acknowledge(actor=actor_of(make_user("mallory")), rollout_id=rollout.pk)
    assert waiting() == [rollout.pk]
    assert rollout_acknowledge(actor=actor_of(make_user("olga")), rollout_id=rollout.pk).acknowledged_at is not None


def test_it_is_among_the_commands_as_long_as_there_is_something_to_acknowledge(world: World) -> None:
    def allowed(rollout: Rollout) -> list[str]:
        return [one.command for one in allowed_commands(rollout) if one.is_allowed]

    rollout = ended(world)
    assert allowed(rollout) == ["retry", "acknowledge"]
    assert allowed(rollout_acknowledge(actor=ALICE, rollout_id=rollout.pk)) == ["retry"]
    assert (
        {role.value for role in Role}
        >= set(allowed_commands(rollout)[-1].roles)
        == {
            "operator",
            "engineer",
            "approver",
        }
    )
