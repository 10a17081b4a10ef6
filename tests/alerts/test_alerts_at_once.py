"""Several observers and people at the same time: one alert per fault, nobody waits for ever, no end without its row."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from django.db import connection, transaction

from apps.accounts.models import Team
from apps.accounts.services.teams import team_create
from apps.alerts.domain.incidents import IncidentState
from apps.alerts.models import Incident
from apps.alerts.services.commands import incident_acknowledge
from apps.alerts.services.incidents import incidents_observe
from apps.audit.models import Event
from apps.kernel.actor import SYSTEM, Actor
from apps.kernel.errors import Conflict
from tests.alerts.test_incidents import burn
from tests.cast import make_actor

pytestmark = pytest.mark.django_db(transaction=True)
ROUNDS, KEYS = 8, [f"slo:{place}" for place in range(4)]


def together(*jobs: Callable[[], None]) -> list[BaseException]:
    """Run each in a thread of its own; what they raised."""
    faults: list[BaseException] = []

    def run(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as fault:  # noqa: BLE001  handed back to the test, which fails on it
            faults.append(fault)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return faults


@pytest.fixture
def globex(transactional_db: None) -> Team:
    return team_create(actor=SYSTEM, slug="globex")


def test_two_observers_and_a_person_do_not_block_each_other(globex: Team) -> None:
    olga: Actor = make_actor("olga")

    def observer() -> None:
        for turn in range(ROUNDS):
            severity = ("page", "ticket", None)[turn % 3]
            with transaction.atomic():
                incidents_observe([burn(globex, severity, key=key) for key in KEYS])

    def person() -> None:
        for _ in range(ROUNDS):
            for row in Incident.objects.exclude(state=IncidentState.RESOLVED):
                try:
                    incident_acknowledge(actor=olga, incident_id=row.pk)
                except Conflict:
                    continue  # it ended in between

    assert together(observer, observer, person) == []
    opened = Incident.objects.exclude(state=IncidentState.RESOLVED).values_list("key", flat=True)
    assert len(opened) == len(set(opened))
    # within the window a fault that comes back is the same alert: no key was opened twice
    assert Incident.objects.count() == len(KEYS)
    assert Event.objects.filter(verb="alert.opened").count() == len(KEYS)
