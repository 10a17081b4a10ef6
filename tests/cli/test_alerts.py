"""`pilothouse alerts` as a person types it: real process, live server, exit codes that a job can build on."""

from __future__ import annotations

import json

import pytest
from django.db import transaction

from apps.accounts.selectors import team_default
from apps.alerts.models import Incident
from apps.alerts.services.incidents import incidents_observe
from tests.alerts.test_incidents import burn
from tests.cli.conftest import Pilothouse, Program

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def pilothouse(program: Program) -> Pilothouse:
    return program("olga")


def a_page() -> Incident:
    with transaction.atomic():
        return incidents_observe([burn(team_default(), "page")])[0]


def test_an_alert_is_listed_taken_on_silenced_and_closed(pilothouse: Pilothouse) -> None:
    row = a_page()
    listed = pilothouse("alerts", "list")
    assert row.pk in listed.stdout, listed.stderr
    assert "fraud: availability" in listed.stdout
    taken = pilothouse("alerts", "ack", row.pk, "-o", "json")
    assert "olga" in json.loads(taken.stdout)["acknowledged_by"]
    stale = pilothouse("alerts", "resolve", row.pk, "--reason", "x", "--expected-revision", "1")
    assert stale.returncode == 7, stale.stderr
    silent = pilothouse("alerts", "silence", row.pk, "--for", "2h", "--reason", "deploying")
    assert silent.returncode == 0, silent.stderr
    assert "silenced" in silent.stdout
    assert pilothouse("alerts", "silence", row.pk, "--for", "soon").returncode == 2
    assert pilothouse("alerts", "resolve", row.pk, "--reason", "rolled back").returncode == 0
    shown = pilothouse("alerts", "show", row.pk)
    assert "resolved" in shown.stdout


def test_watching_ends_with_5_while_something_is_open_and_with_0_when_nothing_is(pilothouse: Pilothouse) -> None:
    row = a_page()
    waited = pilothouse("alerts", "watch", "--timeout", "0", "--severity", "page")
    assert waited.returncode == 5, waited.stderr
    assert "page firing: fraud: availability" in waited.stderr
    assert pilothouse("alerts", "watch", "--timeout", "0", "--endpoint", "another").returncode == 0
    pilothouse("alerts", "resolve", row.pk, "--reason", "over")
    assert pilothouse("alerts", "watch", "--timeout", "0").returncode == 0
