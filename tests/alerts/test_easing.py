"""A page that eases to a ticket and gets worse again: who is told, and who is not got up twice."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from apps.accounts.models import Team
from apps.alerts.domain.incidents import IncidentState
from apps.alerts.services.channels import channel_update, route_create
from apps.alerts.services.commands import incident_acknowledge, incidents_remind
from apps.kernel.actor import Actor
from apps.kernel.clock import set_clock
from tests.alerts.conftest import Receiver
from tests.alerts.test_incidents import Clock, burn, observe
from tests.alerts.test_notices import kinds, webhook

pytestmark = pytest.mark.django_db


@pytest.fixture
def clock() -> Iterator[Clock]:
    found = Clock()
    found.at = datetime.now(UTC)
    with set_clock(found):
        yield found


def test_who_was_paged_hears_of_its_end_although_it_ended_as_a_ticket(
    acme: Team, ada: Actor, olga: Actor, receiver: Receiver, clock: Clock
) -> None:
    phone, _ = webhook(ada, receiver, "phone")
    board, _ = webhook(ada, receiver, "board")
    route_create(actor=ada, channels=[phone.pk], severity="page")
    route_create(actor=ada, channels=[board.pk], severity="ticket")
    (row,) = observe(burn(acme, "page"))
    clock.passes(minutes=5)
    observe(burn(acme, "ticket"))
    incident_acknowledge(actor=olga, incident_id=row.pk)
    clock.passes(hours=6)
    observe(burn(acme, None))
    assert kinds(phone) == ["opened", "acknowledged", "resolved"]
    assert kinds(board) == ["acknowledged", "resolved"]
    channel_update(actor=ada, channel_id=phone.pk, state="paused")
    (row,) = observe(burn(acme, "page"))
    assert kinds(phone) == ["opened", "acknowledged", "resolved"], "paused"


def test_a_page_that_eases_for_a_moment_does_not_page_again_whoever_took_it_on(
    acme: Team, ada: Actor, olga: Actor, receiver: Receiver, clock: Clock
) -> None:
    channel, _ = webhook(ada, receiver)
    (row,) = observe(burn(acme, "page"))
    incident_acknowledge(actor=olga, incident_id=row.pk)
    for _ in range(6):  # a burn at the edge of its fastest tier
        clock.passes(minutes=3)
        observe(burn(acme, "ticket"))
        clock.passes(minutes=3)
        (row,) = observe(burn(acme, "page"))
    assert (row.state, row.acknowledged_by, row.severity) == (IncidentState.ACKNOWLEDGED, olga.label, "page")
    assert kinds(channel) == ["opened", "acknowledged"]
    assert incidents_remind() == 0
    clock.passes(minutes=3)
    observe(burn(acme, "ticket"))
    clock.passes(minutes=16)
    (row,) = observe(burn(acme, "page"))
    assert (row.state, row.acknowledged_by) == (IncidentState.FIRING, ""), "a quarter of an hour later it is another"
    assert kinds(channel) == ["opened", "acknowledged", "worsened"]
