"""The pages of alerts: what is wrong, the worst first; one of them with its buttons; where they go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.accounts.models import Team, User
from apps.alerts.domain.states import DeliveryState
from apps.alerts.models import Channel, Incident, Notice, Receiver, Route
from apps.alerts.selectors import notices_due
from apps.alerts.services.incidents import Observation, incidents_observe
from apps.alerts.services.sending import notice_send
from apps.kernel.actor import Actor
from tests.alerts.conftest import Receiver as Server
from tests.alerts.test_incidents import burn

pytestmark = pytest.mark.django_db
LIST, SETTINGS = "/alerts/", "/settings/alerting/"


@pytest.fixture(autouse=True, scope="session")
def _static_folder() -> None:
    Path(django_settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)


def browser(actor: Actor) -> Client:
    found = Client()
    found.force_login(User.objects.get(pk=actor.id))
    return found


@pytest.fixture
def on_call(olga: Actor) -> Client:
    return browser(olga)


@pytest.fixture
def admin(ada: Actor) -> Client:
    return browser(ada)


def observe(*seen: Observation) -> list[Incident]:
    with transaction.atomic():
        return incidents_observe(seen)


def text(answer: Any, status: int = 200) -> str:
    assert answer.status_code == status, answer.content.decode()[:2000]
    return str(answer.content.decode())


def test_the_list_groups_by_endpoint_and_begins_with_the_worst(acme: Team, on_call: Client) -> None:
    observe(
        burn(acme, "ticket", key="a", subject_name="late", title="late: errors"),
        burn(acme, "page", key="b", subject_name="fraud", title="fraud: latency"),
        burn(acme, "ticket", key="c", subject_name="fraud", title="fraud: errors"),
    )
    html = text(on_call.get(LIST))
    places = [html.index(f"<b>{title}</b>") for title in ("fraud: latency", "fraud: errors", "late: errors")]
    assert places == sorted(places)
    assert "The error budget is gone in 3 h." in html
    assert "2 alerts" in html
    assert "page, firing" in html
    chosen = text(on_call.get(LIST + "?severity=ticket"))
    assert "fraud: latency" not in chosen
    assert "fraud: errors" in chosen


def test_an_empty_list_says_that_nothing_is_wrong(acme: Team, on_call: Client) -> None:
    assert "Nothing is wrong" in text(on_call.get(LIST))
    assert "No alert fits" in text(on_call.get(LIST + "?severity=page&state=firing"))


def test_the_page_answers_the_four_questions_and_its_buttons_work(acme: Team, on_call: Client) -> None:
    (row,) = observe(burn(acme, "page", runbook_url="https://runbooks.example.com/x"))
    page = f"{LIST}{row.pk}/"
    html = text(on_call.get(page))
    assert html.index("The error budget is gone in 3 h.") < html.index("factor: 20")
    assert "1 h at 20.0x, 5 min at 22.1x; limit 14.4x" in html
    assert "https://runbooks.example.com/x" in html
    assert "Nobody is told: acme has no route" in html
    assert "Reminders end and others see that you are on it." in html
    done = on_call.post(f"{page}do/acknowledge/", {"expected_revision": 1, "reason": ""}, follow=True)
    assert "olga-of-acme" in text(done)
    stale = on_call.post(f"{page}do/resolve/", {"expected_revision": 1, "reason": "x"})
    assert "Nothing was changed" in text(stale, 409)
    shared = on_call.get(f"{page}do/resolve/")
    assert (shared.status_code, shared["Location"]) == (302, page)
    missing = on_call.post(f"{page}do/silence/", {"expected_revision": 2, "seconds": 3600, "reason": ""})
    assert "Say why" in text(missing, 422)
    silent = on_call.post(
        f"{page}do/silence/", {"expected_revision": 2, "seconds": 3600, "reason": "known"}, follow=True
    )
    assert "known" in text(silent)
    over = on_call.post(f"{page}do/resolve/", {"expected_revision": 3, "reason": "rolled back"}, follow=True)
    assert "rolled back" in text(over)
    assert 'class="actionbar"' not in text(on_call.get(page))


def test_who_may_only_look_finds_the_buttons_disabled_with_who_can(acme: Team, ada: Actor, admin: Client) -> None:
    (row,) = observe(burn(acme, "page"))
    html = text(admin.get(f"{LIST}{row.pk}/"))
    assert "It needs the role operator" in html
    assert admin.post(f"{LIST}{row.pk}/do/acknowledge/", {"expected_revision": 1}).status_code == 403


def test_another_teams_alert_does_not_exist(acme: Team, on_call: Client) -> None:
    from apps.accounts.services.teams import team_create
    from apps.kernel.actor import SYSTEM

    (row,) = observe(burn(team_create(actor=SYSTEM, slug="globex"), "page"))
    assert on_call.get(f"{LIST}{row.pk}/").status_code == 404
    assert row.title not in text(on_call.get(LIST))
    assert row.title not in text(on_call.get(f"{LIST}of/fraud/"))


def test_texts_from_outside_stay_text(acme: Team, on_call: Client) -> None:
    nasty = "<script>alert(1)</script>"
    (row,) = observe(burn(acme, "page", title=nasty, summary=nasty, subject_name=nasty, facts={nasty: nasty}))
    for page in (LIST, f"{LIST}{row.pk}/"):
        assert nasty not in text(on_call.get(page))


@pytest.mark.parametrize(("make", "most"), [(1, 9), (40, 9)])
def test_the_list_costs_the_same_for_many(acme: Team, on_call: Client, make: int, most: int) -> None:
    observe(*(burn(acme, "page", key=f"k{place}", subject_name=f"e{place}") for place in range(make)))
    with CaptureQueriesContext(connection) as queries:
        text(on_call.get(f"{LIST}_rows/"))
    assert len(queries) <= most


def test_a_fragment_that_did_not_change_is_not_sent_again(acme: Team, on_call: Client, frozen: None) -> None:
    (row,) = observe(burn(acme, "page"))
    for part in ("_rows/", f"{row.pk}/head/", f"{row.pk}/history/", "of/fraud/"):
        first = on_call.get(LIST + part)
        again = on_call.get(LIST + part, headers={"If-None-Match": first.headers["ETag"]})
        assert again.status_code == 304, part


@pytest.fixture
def frozen() -> Any:
    from apps.kernel.clock import now, set_clock

    at = now()
    with set_clock(lambda: at):
        yield


def test_a_channel_is_made_tested_and_its_lost_message_sent_again(
    acme: Team, admin: Client, receiver: Server, settings: Any
) -> None:
    assert "Nobody is told of anything yet" in text(admin.get(SETTINGS))
    bad = admin.post(SETTINGS + "new/", {"name": "chat", "kind": "slack", "address_secret": "slack://nope"})
    assert "An address of Slack looks like" in text(bad, 422)
    made = text(admin.post(SETTINGS + "new/", {"name": "hook", "kind": "webhook", "address_secret": receiver.url}))
    assert "whsec_" in made
    channel = Channel.objects.get()
    assert receiver.url not in text(admin.get(f"{SETTINGS}{channel.pk}/")), "only its host"
    settings.PILOTHOUSE_OUTBOUND_ALLOW = ()
    admin.post(f"{SETTINGS}{channel.pk}/test")
    assert [notice_send(one) for one in notices_due()] == [DeliveryState.GIVEN_UP]
    given_up = text(admin.get(f"{SETTINGS}{channel.pk}/?state=given_up"))
    assert "is not called" in given_up
    assert "Given up after the first attempt: repeating it could not help." in given_up
    assert "24 hours" not in given_up, "it was not tried for so long"
    assert ">1</a>" in text(admin.get(SETTINGS))
    settings.PILOTHOUSE_OUTBOUND_ALLOW = ("127.0.0.1:" + receiver.url.split(":")[2].split("/")[0],)
    admin.post(f"{SETTINGS}{channel.pk}/messages/{Notice.objects.get().pk}/resend")
    assert [notice_send(one) for one in notices_due()] == [DeliveryState.DELIVERED]
    paused = admin.post(f"{SETTINGS}{channel.pk}/change", {"state": "paused"}, follow=True)
    assert "waits until it is on" in text(paused)
    admin.post(f"{SETTINGS}{channel.pk}/remove")
    assert not Channel.objects.exists()


def test_routes_and_receivers_by_clicks(acme: Team, admin: Client) -> None:
    admin.post(SETTINGS + "new/", {"name": "hook", "kind": "webhook", "address_secret": "https://hooks.example.com/x"})
    channel = Channel.objects.get()
    assert "Name at least one channel" in text(admin.post(SETTINGS + "routes/add", {"severity": "page"}), 422)
    added = admin.post(SETTINGS + "routes/add", {"severity": "page", "channels": [channel.pk]}, follow=True)
    assert "every environment" in text(added)
    admin.post(f"{SETTINGS}routes/{Route.objects.get().pk}/remove")
    assert not Route.objects.exists()
    given = text(admin.post(SETTINGS + "receivers/add", {"name": "prometheus", "team": "acme", "page_values": "p1"}))
    assert "plr_" in given
    assert Receiver.objects.get().page_values == ["p1"]
    renewed = text(admin.post(f"{SETTINGS}receivers/{Receiver.objects.get().pk}/rotate"))
    assert "plr_" in renewed
    assert "plr_" not in text(admin.get(SETTINGS))
    house = admin.post(SETTINGS + "receivers/add", {"name": "house", "team": "*"})
    assert house.status_code in {403, 422}, "only who administers every team"


def test_an_operator_does_not_reach_the_settings(acme: Team, on_call: Client) -> None:
    for path in (SETTINGS, SETTINGS + "new/"):
        assert on_call.get(path).status_code == 403


def test_a_silence_that_ends_another_day_says_which(acme: Team, on_call: Client) -> None:
    (row,) = observe(burn(acme, "page"))
    page = f"{LIST}{row.pk}/"
    on_call.post(f"{page}do/silence/", {"expected_revision": 1, "seconds": 604_800, "reason": "known"})
    until = Incident.objects.get(pk=row.pk).silenced_until
    assert until is not None
    assert f"silent until {until:%Y-%m-%d %H:%M} UTC" in text(on_call.get(LIST + "_rows/"))


def test_numbers_are_read_by_people_however_large_they_are(acme: Team, on_call: Client) -> None:
    facts = {"burn": 869_000.0, "budget_remaining": -868_938.5, "requests": 1_234_567, "share": 0.25}
    (row,) = observe(burn(acme, "page", facts=facts))
    html = text(on_call.get(f"{LIST}{row.pk}/"))
    for line in ("burn: 869,000", "budget remaining: -86,893,850 %", "requests: 1,234,567", "share: 0.25"):
        assert line in html
    assert "e+05" not in html


def test_what_was_chosen_stays_when_the_address_is_refused_and_the_address_does_not(acme: Team, admin: Client) -> None:
    sent = {"name": "phone", "kind": "pagerduty", "address_secret": "pagerduty://xx", "is_default": "yes"}
    html = text(admin.post(SETTINGS + "new/", sent), 422)
    assert 'name="is_default" value="yes" checked' in html
    assert 'value="phone"' in html
    assert "pagerduty://xx" not in html
