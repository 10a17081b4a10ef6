"""One fault is one incident: it opens, gets worse and better, comes back, ends, and nothing is written in between."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.test.utils import CaptureQueriesContext

from apps.accounts.models import Team
from apps.alerts.domain.incidents import ChangeKind, IncidentState
from apps.alerts.models import Incident, IncidentChange
from apps.alerts.services.incidents import Observation, State, incidents_observe
from apps.audit.models import Event
from apps.kernel.clock import set_clock

pytestmark = pytest.mark.django_db


class Clock:
    """A wall clock that only the test moves."""

    def __init__(self) -> None:
        self.at = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at

    def passes(self, **time: float) -> None:
        self.at += timedelta(**time)


@pytest.fixture
def clock() -> Iterator[Clock]:
    found = Clock()
    with set_clock(found):
        yield found


def fast(*, fires: bool) -> State:
    return State("page_fast", "page", fires, "1 h at 20.0x, 5 min at 22.1x; limit 14.4x")


def slow(*, fires: bool) -> State:
    return State("ticket_slow", "ticket", fires, "3 d at 1.2x, 6 h at 1.3x; limit 1x")


def burn(team: Team, severity: str | None, **more: Any) -> Observation:
    states = more.pop("states", (fast(fires=severity == "page"), slow(fires=severity is not None)))
    given: dict[str, Any] = {
        "key": "slo:ob_1", "source": "slo", "team_id": team.pk, "environment": "production",
        "subject_type": "endpoint", "subject_id": "ep_1", "subject_name": "fraud", "severity": severity,
        "title": "fraud: availability", "summary": "2.1 % of 8,412 requests failed in 1 h.",
        "facts": {"seconds_to_exhaustion": 10_800, "factor": 20.0}, "states": states,
    }  # fmt: skip
    return Observation(**{**given, **more})


def observe(*seen: Observation) -> list[Incident]:
    with transaction.atomic():
        return incidents_observe(seen)


def kinds(row: Incident) -> list[str]:
    return list(IncidentChange.objects.filter(incident=row).order_by("id").values_list("kind", flat=True))


def test_a_fault_is_one_incident_whatever_its_tiers_do(acme: Team, clock: Clock) -> None:
    (row,) = observe(burn(acme, "ticket"))
    clock.passes(minutes=1)
    observe(burn(acme, "page"))
    clock.passes(minutes=1)
    observe(burn(acme, "ticket"))
    clock.passes(minutes=1)
    observe(burn(acme, None))
    row.refresh_from_db()
    assert kinds(row) == ["opened", "worsened", "eased", "resolved"]
    assert (row.state, row.resolved_by, row.resolved_at) == (IncidentState.RESOLVED, "", clock.at)
    assert Incident.objects.count() == 1
    verbs = Event.objects.filter(subject_id=row.pk).order_by("seq").values_list("verb", flat=True)
    assert list(verbs) == ["alert.opened", "alert.worsened", "alert.eased", "alert.resolved"]


def test_what_stays_as_it_is_writes_nothing(acme: Team, clock: Clock) -> None:
    observe(burn(acme, "page"))
    clock.passes(minutes=10)
    with CaptureQueriesContext(connection) as seen:
        assert observe(burn(acme, "page"), burn(acme, None, key="slo:other")) == []
    written = [one["sql"] for one in seen if one["sql"].startswith(("INSERT", "UPDATE", "DELETE"))]
    assert not written
    assert len(seen) <= 3, "one SELECT between savepoints"


def test_numbers_that_move_are_refreshed_once_a_minute_and_are_no_change(acme: Team, clock: Clock) -> None:
    (row,) = observe(burn(acme, "page"))
    clock.passes(seconds=10)
    observe(burn(acme, "page", summary="The budget is gone in 2 h."))
    row.refresh_from_db()
    assert row.summary == "2.1 % of 8,412 requests failed in 1 h."
    clock.passes(seconds=50)
    observe(burn(acme, "page", summary="The budget is gone in 1 h."))
    row.refresh_from_db()
    assert (row.summary, row.revision, kinds(row)) == ("The budget is gone in 1 h.", 1, ["opened"])


def test_another_tier_of_the_same_severity_is_history(acme: Team, clock: Clock) -> None:
    (row,) = observe(burn(acme, "page", states=(fast(fires=True), slow(fires=False))))
    observe(burn(acme, "page", states=(fast(fires=True), slow(fires=True))))
    assert kinds(row) == ["opened", "states_changed"]
    assert not Event.objects.filter(verb="alert.states_changed").exists()


def test_a_fault_that_comes_back_soon_is_the_same_one(acme: Team, clock: Clock) -> None:
    (row,) = observe(burn(acme, "page"))
    observe(burn(acme, None))
    clock.passes(minutes=14)
    (again,) = observe(burn(acme, "page"))
    assert (again.pk, again.reopened, again.firing_since) == (row.pk, 1, clock.at)
    assert again.opened_at == clock.at - timedelta(minutes=14)
    observe(burn(acme, None))
    clock.passes(minutes=16)
    (new,) = observe(burn(acme, "page"))
    assert new.pk != row.pk


def test_getting_worse_takes_back_the_acknowledgement_and_the_silence(acme: Team, clock: Clock) -> None:
    (row,) = observe(burn(acme, "ticket"))
    Incident.objects.filter(pk=row.pk).update(
        state=IncidentState.ACKNOWLEDGED, acknowledged_by="olga", silenced_until=clock.at + timedelta(hours=1)
    )
    (row,) = observe(burn(acme, "page"))
    assert (row.state, row.acknowledged_by, row.silenced_until) == (IncidentState.FIRING, "", None)


def test_two_transactions_that_see_the_same_fault_open_one_incident(acme: Team, clock: Clock) -> None:
    (row,) = observe(burn(acme, "page"))
    # what the second of two transactions runs into: the first look found nothing, the row came in between
    twin = Incident(**{name: getattr(row, name) for name in _columns() if name != "id"})
    Incident.objects.bulk_create([twin], ignore_conflicts=True)
    assert Incident.objects.count() == 1


def test_the_database_keeps_the_history(acme: Team, clock: Clock) -> None:
    (row,) = observe(burn(acme, "page"))
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        IncidentChange.objects.filter(incident=row).update(kind=ChangeKind.RESOLVED)
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        IncidentChange.objects.filter(incident=row).delete()


@pytest.mark.parametrize("bad", [{"key": ""}, {"key": "x" * 201}, {"severity": "critical"}])
def test_an_observation_that_cannot_be_is_refused(acme: Team, bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"key has|severity is"):
        burn(acme, **{"severity": "page", **bad})


def _columns() -> list[str]:
    return [field.attname for field in Incident._meta.concrete_fields]
