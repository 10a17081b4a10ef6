"""Budgets as pages and messages say them: once, and without a double no; and not at all while nobody judges them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape

import pytest
from django.test import Client

from apps.alerts.domain.messages import time_left
from apps.alerts.domain.watches import FAULTS, OBJECTIVES
from apps.alerts.services.watches import watch_note
from apps.slo.web.said import burn_row
from tests.cast import make_user
from tests.slo.watchtower import Tower, standing

pytestmark = pytest.mark.django_db


@pytest.fixture
def tower() -> Iterator[Tower]:
    with standing() as found:
        yield found


@pytest.fixture
def alice(tower: Tower) -> Client:
    client = Client()
    client.force_login(make_user("alice"))
    return client


def said(client: Client, path: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", client.get(path).content.decode())).split())


def overspent(tower: Tower) -> str:
    """Every request fails for half an hour; the page of its alert."""
    tower.minutes(30, good=0, timeout=100)
    (incident,) = [one for one in tower.incidents() if tower.objective().pk in one.key]
    return f"/alerts/{incident.pk}/"


def test_an_overspent_budget_is_over_and_not_minus_and_gone(tower: Tower, alice: Client) -> None:
    overspent(tower)
    fleet = alice.get("/_fleet/").content.decode()
    assert "99,900 % over" in fleet
    assert not re.search(r"[-−][\d,.]+ %", unescape(fleet))
    budget = fleet.split('class="budget', 1)[1].split("</td>", 1)[0]
    assert "gone" not in re.sub(r'title="[^"]*"', "", budget)
    assert "the budget is overspent by 99,900 %" in budget
    burns = said(alice, f"/endpoints/{tower.name}/objectives/burns/")
    assert "19,900 % over" in burns
    assert "−" not in burns


def test_an_alert_says_once_that_its_budget_is_gone(tower: Tower, alice: Client) -> None:
    page = overspent(tower)
    head = said(alice, f"{page}head/")
    assert "The budget is overspent by 19,900 %." in head
    assert "The error budget is gone" not in head
    assert "The error budget" not in said(alice, "/_fleet/") + said(alice, "/alerts/_rows/")


def test_where_the_summary_says_something_else_the_time_that_is_left_stands_before_it() -> None:
    facts = {"seconds_to_exhaustion": 10_800}
    assert time_left(facts, "No request since 12:00. Page fast stays on until one comes.") == (
        "The error budget is gone in 3 h."
    )
    assert time_left(facts, "The budget is gone in 3 h at this pace; 12 % is left.") == ""


def test_while_nobody_judges_no_budget_is_said_to_last(tower: Tower, alice: Client) -> None:
    watch_note(FAULTS)
    watch_note(OBJECTIVES)
    tower.minutes(10, good=100)
    watch_note(FAULTS)
    watch_note(OBJECTIVES)
    assert "lasts" in said(alice, "/_fleet/")
    noted = tower.clock.at
    tower.clock.forward(121)
    watch_note(FAULTS)
    told = alice.get("/_fleet/").content.decode()
    assert f"No objective was judged since {noted:%Y-%m-%d %H:%M} UTC" in told
    assert "not judged" in told
    assert "lasts" not in re.sub(r'title="[^"]*"', "", told)
    assert 'class="budget ok"' not in told
    burns = alice.get(f"/endpoints/{tower.name}/objectives/burns/").content.decode()
    assert "<b>lasts</b>" not in burns
    assert 'class="budget ok"' not in burns
    assert burn_row(tower.burn())["tone"] == "ok"
