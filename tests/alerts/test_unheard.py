"""What an Alertmanager no longer repeats is taken as over: not early, not for our own absence, and said in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from apps.accounts.models import Team
from apps.alerts.domain.incidents import IncidentState
from apps.alerts.models import Incident, IncidentChange, Receiver
from apps.alerts.services.receivers import (
    alerts_receive,
    receiver_create,
    receiver_delete,
    receiver_rotate,
    receiver_update,
)
from apps.alerts.services.unheard import incidents_unheard
from apps.audit.models import Event
from apps.kernel.actor import Actor
from apps.kernel.clock import now, set_clock
from apps.kernel.errors import InvalidInput, NotFound
from tests.alerts.test_alertmanager import alert, payload
from tests.web.conftest import browser  # noqa: F401  the fixture

pytestmark = pytest.mark.django_db


class Clock:
    """Stands still until it is moved; somebody looks every few minutes, as the worker does."""

    def __init__(self) -> None:
        self.at = now()
        self.is_attended = True

    def __call__(self) -> datetime:
        return self.at

    def on(self, **span: float) -> int:
        """Later; how many alerts ended meanwhile."""
        until, ended = self.at + timedelta(**span), 0
        while self.at < until:
            self.at = min(until, self.at + timedelta(minutes=5)) if self.is_attended else until
            ended += incidents_unheard() if self.is_attended else 0
        return ended


@pytest.fixture
def clock() -> Iterator[Clock]:
    found = Clock()
    with set_clock(found):
        yield found


@pytest.fixture
def receiver(acme: Team, ada: Actor, clock: Clock) -> Receiver:
    row, _ = receiver_create(actor=ada, name="prometheus of acme", repeat_seconds=3600)
    incidents_unheard()
    return row


Says = Callable[..., None]


@pytest.fixture
def says(receiver: Receiver) -> Says:
    def say(**over: Any) -> None:
        answer = alerts_receive(receiver=receiver, payload=payload(alert(**over)))
        assert answer["accepted"] == 1

    return say


def test_an_alert_that_is_repeated_stays_open_for_days(says: Says, clock: Clock) -> None:
    for _ in range(48):
        says()
        assert clock.on(hours=1, minutes=5) == 0
    assert Incident.objects.get().state == IncidentState.FIRING


def test_one_that_is_not_ends_after_its_interval_and_a_quarter(says: Says, clock: Clock, receiver: Receiver) -> None:
    says()
    heard = clock.at
    assert clock.on(hours=1, minutes=10) == 0
    assert clock.on(minutes=10) == 1
    row = Incident.objects.get()
    assert (row.state, row.resolved_by, row.has_cleared) == (IncidentState.RESOLVED, "", True)
    words = f"Not heard of since {heard:%Y-%m-%d %H:%M} UTC: prometheus of acme repeats what still fires every 1 h"
    assert words in row.summary
    assert words in IncidentChange.objects.order_by("id").last().sentence  # type: ignore[union-attr]
    event = Event.objects.filter(verb="alert.resolved").get()
    assert words in event.detail["reason"]
    assert clock.on(hours=3) == 0


def test_one_that_is_said_again_soon_after_is_the_same_fault(says: Says, clock: Clock) -> None:
    says()
    clock.on(hours=1, minutes=20)
    says()
    assert Incident.objects.get().reopened == 1


def test_the_alerts_of_others_and_of_other_sources_stay(says: Says, clock: Clock, ada: Actor) -> None:
    says()
    quiet, _ = receiver_create(actor=ada, name="another", repeat_seconds=7200)
    alerts_receive(receiver=quiet, payload=payload(alert(fingerprint="ffff")))
    Incident.objects.filter(key__endswith=":ffff").update(heard_at=clock.at)
    kept = Incident.objects.get(key__endswith=":ffff")
    Incident.objects.create(
        key="slo:1", source="slo", subject_type="endpoint", severity="page", title="t", opened_at=clock.at,
        firing_since=clock.at, observed_at=clock.at, changed_at=clock.at,
    )  # fmt: skip
    assert clock.on(hours=2) == 1
    assert set(Incident.objects.exclude(state=IncidentState.RESOLVED).values_list("key", flat=True)) == {
        "slo:1", kept.key,
    }  # fmt: skip


def test_time_in_which_nobody_listened_does_not_count(says: Says, clock: Clock) -> None:
    says()
    clock.is_attended = False
    clock.on(hours=9)
    clock.is_attended = True
    assert clock.on(hours=1, minutes=10) == 0
    assert clock.on(minutes=15) == 1


def test_a_look_at_what_is_well_writes_at_most_once_a_minute(
    says: Says, clock: Clock, django_assert_num_queries: Any
) -> None:
    says()
    clock.at += timedelta(seconds=15)
    with django_assert_num_queries(5):  # ids, savepoint, the receiver's lock, alerts that are old enough, release
        incidents_unheard()


def test_what_its_end_says_is_over_is_over(says: Says, clock: Clock) -> None:
    says(endsAt=(clock.at + timedelta(minutes=4)).isoformat())
    assert Incident.objects.get().state == IncidentState.FIRING
    clock.at += timedelta(minutes=5)
    says(endsAt=(clock.at - timedelta(minutes=1)).isoformat().replace("+00:00", "Z"))
    assert Incident.objects.get().state == IncidentState.RESOLVED


@pytest.mark.parametrize("ends_at", ["soon", "2026-13-01T00:00:00Z", 7])
def test_an_end_that_is_none_is_refused_by_itself(receiver: Receiver, ends_at: Any) -> None:
    answer = alerts_receive(receiver=receiver, payload=payload(alert(endsAt=ends_at), alert(fingerprint="ab12")))
    assert (answer["accepted"], [one["code"] for one in answer["rejected"]]) == (1, ["bad_end"])


def test_the_interval_can_be_changed_and_is_recorded(receiver: Receiver, ada: Actor, says: Says, clock: Clock) -> None:
    says()
    receiver_update(actor=ada, receiver_id=receiver.pk, repeat_seconds=60)
    event = Event.objects.filter(verb="receiver.updated").get()
    assert (event.detail["before"], event.detail["repeat_seconds"]) == ({"repeat_seconds": 3600}, 60)
    assert clock.on(minutes=10) == 0
    assert clock.on(minutes=5) == 1
    for seconds in (0, 59, 7 * 86_400 + 1):
        with pytest.raises(InvalidInput):
            receiver_update(actor=ada, receiver_id=receiver.pk, repeat_seconds=seconds)
    with pytest.raises(NotFound):
        receiver_update(actor=ada, receiver_id="ar_nobody", repeat_seconds=60)


def test_a_new_token_changes_nothing_about_it_and_a_receiver_that_is_gone_ends_nothing(
    receiver: Receiver, ada: Actor, says: Says, clock: Clock
) -> None:
    says()
    receiver_rotate(actor=ada, receiver_id=receiver.pk)
    assert Receiver.objects.get().repeat_seconds == 3600
    receiver_delete(actor=ada, receiver_id=receiver.pk)
    assert clock.on(hours=9) == 0
    assert Incident.objects.get().state == IncidentState.FIRING


def test_the_page_says_when_it_was_heard_and_when_it_is_over(
    says: Says, clock: Clock, browser: Any  # noqa: F811
) -> None:  # fmt: skip
    says()
    clock.on(minutes=30)
    says()
    row = Incident.objects.get()
    html = browser("olga").get(f"/alerts/{row.pk}/head/").content.decode()
    assert "last said again" in html
    assert f"{clock.at + timedelta(minutes=75):%Y-%m-%d %H:%M}" in html
    clock.on(hours=2)
    html = browser("bob").get(f"/alerts/{row.pk}/head/").content.decode()
    assert "Not heard of since" in html
    assert "taken as over unless" not in html


def test_the_interval_is_set_on_the_page(receiver: Receiver, browser: Any) -> None:  # noqa: F811
    client = browser("ada")
    path = f"/settings/alerting/receivers/{receiver.pk}/change"
    assert client.post(path, {"repeat_minutes": "90"}).status_code == 302
    assert Receiver.objects.get().repeat_seconds == 5400
    assert 'value="90"' in client.get("/settings/alerting/").content.decode()
    answer = client.post(path, {"repeat_minutes": "soon"})
    assert answer.status_code == 422
    assert "after how many minutes" in answer.content.decode()
