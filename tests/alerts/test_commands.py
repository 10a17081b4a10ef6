"""What people do about an alert: who may, on what they saw, and what is kept of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from apps.accounts.domain.roles import Role
from apps.accounts.models import Team
from apps.accounts.services.access import actor_of
from apps.accounts.services.teams import team_create
from apps.alerts.domain.incidents import IncidentState
from apps.alerts.models import Incident, IncidentChange
from apps.alerts.selectors import incident_changes, incident_list, incidents_of
from apps.alerts.services.commands import incident_acknowledge, incident_resolve, incident_silence
from apps.audit.models import Event
from apps.kernel.actor import SYSTEM, Actor
from apps.kernel.clock import set_clock
from apps.kernel.errors import Conflict, Forbidden, InvalidInput, NotFound
from tests.alerts.test_incidents import Clock, burn, observe
from tests.cast import make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def clock() -> Iterator[Clock]:
    found = Clock()
    with set_clock(found):
        yield found


def test_whoever_takes_it_on_is_named_and_pressing_twice_is_one_entry(acme: Team, olga: Actor, clock: Clock) -> None:
    (row,) = observe(burn(acme, "page"))
    row = incident_acknowledge(actor=olga, incident_id=row.pk, expected_revision=1, reason="looking")
    again = incident_acknowledge(actor=olga, incident_id=row.pk, expected_revision=1)
    assert (row.state, row.acknowledged_by, row.acknowledged_at) == ("acknowledged", "olga-of-acme", clock.at)
    assert again.revision == row.revision == 2
    change = incident_changes(row)[-1]
    assert (change.kind, change.by, change.sentence) == ("acknowledged", "olga-of-acme", "looking")
    assert Event.objects.filter(verb="alert.acknowledged", actor_label="olga-of-acme").count() == 1


def test_a_click_on_what_it_was_before_it_got_worse_does_nothing(acme: Team, olga: Actor, clock: Clock) -> None:
    (row,) = observe(burn(acme, "ticket"))
    observe(burn(acme, "page"))
    presses: tuple[Callable[[], Incident], ...] = (
        lambda: incident_acknowledge(actor=olga, incident_id=row.pk, expected_revision=1),
        lambda: incident_resolve(actor=olga, incident_id=row.pk, expected_revision=1, reason="x"),
        lambda: incident_silence(
            actor=olga, incident_id=row.pk, expected_revision=1, until=clock.at + timedelta(hours=1), reason="x"
        ),
    )
    for press in presses:
        with pytest.raises(Conflict) as refused:
            press()
        assert refused.value.code == "stale_revision"
        assert refused.value.extra["revision"] == 2


def test_what_a_person_closes_stays_closed_for_the_window_unless_it_gets_worse(
    acme: Team, olga: Actor, clock: Clock
) -> None:
    (row,) = observe(burn(acme, "ticket"))
    incident_resolve(actor=olga, incident_id=row.pk, reason="a test run")
    clock.passes(minutes=10)
    assert observe(burn(acme, "ticket")) == []
    (worse,) = observe(burn(acme, "page"))
    assert (worse.pk, worse.state) == (row.pk, IncidentState.FIRING)
    incident_resolve(actor=olga, incident_id=row.pk, reason="still a test")
    observe(burn(acme, None))
    clock.passes(minutes=1)
    (back,) = observe(burn(acme, "page"))
    assert back.pk == row.pk, "its source had cleared in between: this is a new occurrence"
    incident_resolve(actor=olga, incident_id=row.pk, reason="enough")
    clock.passes(minutes=16)
    (new,) = observe(burn(acme, "page"))
    assert new.pk != row.pk


def test_who_took_it_on_keeps_it_when_it_comes_back(acme: Team, olga: Actor, clock: Clock) -> None:
    (row,) = observe(burn(acme, "page"))
    incident_acknowledge(actor=olga, incident_id=row.pk)
    observe(burn(acme, None))
    (back,) = observe(burn(acme, "page"))
    assert (back.state, back.acknowledged_by) == (IncidentState.ACKNOWLEDGED, "olga-of-acme")


def test_only_the_teams_operators_act_and_others_do_not_even_see(acme: Team, clock: Clock) -> None:
    (row,) = observe(burn(acme, "page"))
    viewer = actor_of(make_user("vera", frozenset({Role.VIEWER}), acme))
    foreign = actor_of(make_user("otto", frozenset({Role.OPERATOR}), team_create(actor=SYSTEM, slug="other")))
    staging = actor_of(make_user("sven", frozenset({Role.OPERATOR}), acme, "staging"))
    with pytest.raises(Forbidden, match="operator"):
        incident_acknowledge(actor=viewer, incident_id=row.pk)
    for stranger in (foreign, staging):
        with pytest.raises(NotFound):
            incident_acknowledge(actor=stranger, incident_id=row.pk)
        assert not incident_list(stranger).exists()
    assert IncidentChange.objects.count() == 1


def test_what_belongs_to_no_team_is_for_roles_that_hold_everywhere(acme: Team, olga: Actor, clock: Clock) -> None:
    (row,) = observe(burn(acme, "page", team_id=None, environment="", key="house:queue"))
    everywhere = actor_of(make_user("olga"))
    assert not incident_list(olga).exists()
    assert incident_acknowledge(actor=everywhere, incident_id=row.pk).acknowledged_by == "olga"


def test_a_silence_needs_a_reason_and_an_end_and_can_be_lifted(acme: Team, olga: Actor, clock: Clock) -> None:
    (row,) = observe(burn(acme, "page"))
    hour = clock.at + timedelta(hours=1)
    with pytest.raises(InvalidInput, match="Say why"):
        incident_silence(actor=olga, incident_id=row.pk, until=hour, reason=" ")
    with pytest.raises(InvalidInput, match="30 days"):
        incident_silence(actor=olga, incident_id=row.pk, until=clock.at + timedelta(days=31), reason="x")
    row = incident_silence(actor=olga, incident_id=row.pk, until=hour, reason="deploying")
    assert (row.silenced_until, row.silence_reason, row.silenced_by) == (hour, "deploying", "olga-of-acme")
    row = incident_silence(actor=olga, incident_id=row.pk, until=clock.at, reason="")
    assert (row.silenced_until, incident_changes(row)[-1].kind) == (None, "unsilenced")


def test_resolving_needs_a_reason_and_happens_once(acme: Team, olga: Actor, clock: Clock) -> None:
    (row,) = observe(burn(acme, "page"))
    with pytest.raises(InvalidInput):
        incident_resolve(actor=olga, incident_id=row.pk, reason="")
    incident_resolve(actor=olga, incident_id=row.pk, reason="fixed")
    with pytest.raises(Conflict, match="resolved already by olga-of-acme"):
        incident_resolve(actor=olga, incident_id=row.pk, reason="fixed")


def test_the_worst_comes_first(acme: Team, olga: Actor, clock: Clock) -> None:
    observe(burn(acme, "ticket", key="a"), burn(acme, "page", key="b"), burn(acme, "page", key="c"))
    incident_acknowledge(actor=olga, incident_id=incidents_of("fraud")[0].pk)
    found = [(row.state, row.severity) for row in incidents_of("fraud")]
    assert found == [("firing", "page"), ("firing", "ticket"), ("acknowledged", "page")]
