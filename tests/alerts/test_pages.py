"""The pages of webhooks: made, watched, tested, rotated, switched and removed by clicks, over the API's services."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.accounts.domain.roles import ACTIONS, Role
from apps.accounts.models import Team, User
from apps.accounts.services.access import actor_of
from apps.accounts.services.teams import team_create
from apps.alerts.domain.events import ASKABLE, EVENTS, FAMILIES
from apps.alerts.domain.states import DeliveryState, SubscriptionState
from apps.alerts.domain.words import EVENT_WORDS, families, sentence_of, summary_of
from apps.alerts.models import Delivery, Subscription
from apps.alerts.selectors import deliveries_due
from apps.alerts.services.send import deliveries_prune, delivery_send
from apps.alerts.services.subscriptions import subscription_create
from apps.audit.models import Event
from apps.kernel.actor import SYSTEM, Actor
from apps.kernel.clock import now
from tests.alerts.conftest import Receiver
from tests.alerts.test_webhooks import agrees
from tests.cast import make_user

pytestmark = pytest.mark.django_db
LIST, NEW = "/settings/webhooks/", "/settings/webhooks/new/"
Person = Callable[[Role], Client]


@pytest.fixture(autouse=True, scope="session")
def _static_folder() -> None:
    Path(django_settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)


@pytest.fixture
def client(ada: Actor) -> Client:
    """Ada's browser."""
    found = Client()
    found.force_login(User.objects.get(pk=ada.id))
    return found


@pytest.fixture
def hook(ada: Actor, receiver: Receiver) -> Subscription:
    return subscription_create(actor=ada, name="chat", url=receiver.url, events=["rollout.*", "alias.moved"])[0]


def form(**over: Any) -> dict[str, Any]:
    return {"name": "chat", "url": "https://hooks.example.com/x", "events": ["rollout.failed", "review.*"], **over}


def text(answer: Any) -> str:
    return re.sub(r"\s+", " ", str(answer.content, "utf-8"))


def send_all() -> list[DeliveryState | None]:
    return [delivery_send(one) for one in deliveries_due()]


def test_every_event_and_family_has_words_and_can_be_chosen() -> None:
    assert set(EVENT_WORDS) == set(EVENTS)
    offered = {one.every for one in families()} | {name for one in families() for name, _ in one.events}
    assert offered == set(ASKABLE)
    assert {one.every for one in families()} == set(FAMILIES)
    assert sentence_of("rollout.failed") == "rollout failed"
    assert summary_of(["rollout.*", "alias.moved"]) == "all about rollouts, 1 of 2 about aliases"


def test_a_webhook_is_made_and_its_secret_stands_in_that_answer_and_nowhere_else(client: Client) -> None:
    made = client.post(NEW, form(environments=["production"]))
    hook = Subscription.objects.get()
    assert (made.status_code, sorted(hook.events), hook.environments) == (
        200, ["review.*", "rollout.failed"], ["production"],
    )  # fmt: skip
    secret = re.search(r"whsec_[A-Za-z0-9+/=]{44}", text(made))
    assert secret is not None
    assert made.headers["Cache-Control"] == "max-age=0, no-cache, no-store, must-revalidate, private"
    for path in (LIST, f"{LIST}{hook.pk}/", f"{LIST}{hook.pk}/edit/"):
        page = client.get(path)
        assert page.status_code == 200
        assert "whsec_" not in text(page).replace("whsec_…", "").replace("<code>whsec_</code>", "")
    assert "hooks.example.com" in text(client.get(LIST))


@pytest.mark.parametrize(
    ("wrong", "field"),
    [({"url": "ftp://x"}, "url"), ({"events": []}, "events"), ({"name": ""}, "name"), ({"events": ["x.y"]}, "events")],
)
def test_what_was_typed_stays_when_it_is_refused_at_its_field(
    client: Client, wrong: dict[str, Any], field: str
) -> None:
    answer = client.post(NEW, form(environments=["staging"], **wrong))
    assert answer.status_code == 422
    assert f'id="f-{field}"' in text(answer)
    assert 'value="staging" checked' in text(answer)
    assert not Subscription.objects.exists()


def test_a_name_that_is_taken_is_said_at_the_name(client: Client, hook: Subscription) -> None:
    answer = client.post(NEW, form())
    assert (answer.status_code, "has a webhook chat already" in text(answer)) == (422, True)


def test_changing_it_keeps_what_was_not_touched_and_is_recorded(client: Client, hook: Subscription) -> None:
    page = text(client.get(f"{LIST}{hook.pk}/edit/"))
    assert 'value="rollout.*" checked' in page
    assert 'value="alias.moved" checked' in page
    changed = client.post(f"{LIST}{hook.pk}/edit/", form(name="pager", events=["rollout.failed"]))
    assert changed.headers["Location"] == f"{LIST}{hook.pk}/"
    hook.refresh_from_db()
    assert (hook.name, hook.events) == ("pager", ["rollout.failed"])
    assert Event.objects.filter(verb="subscription.updated", subject_id=hook.pk).count() == 1


def test_a_test_message_takes_the_way_of_every_other_one(client: Client, ada: Actor, receiver: Receiver) -> None:
    row, secret = subscription_create(actor=ada, name="chat", url=receiver.url, events=["alias.moved"])
    assert client.post(f"{LIST}{row.pk}/test").status_code == 302
    assert send_all() == [DeliveryState.DELIVERED]
    assert agrees(secret, receiver.came[0])
    assert b'"webhook.test"' in receiver.came[0].body
    page = text(client.get(f"{LIST}{row.pk}/"))
    assert "test message" in page
    assert "delivered" in page
    assert Event.objects.filter(verb="subscription.tested", subject_id=row.pk).count() == 1


def test_a_failing_message_shows_its_attempts_answer_and_next_try(
    client: Client, hook: Subscription, receiver: Receiver
) -> None:
    receiver.status = 503
    client.post(f"{LIST}{hook.pk}/test")
    assert send_all() == [DeliveryState.WAITING]
    message = Delivery.objects.get()
    log = text(client.get(f"{LIST}{hook.pk}/messages/"))
    for said in ("will be repeated", "attempt 1 of 20", "answered 503", f"{message.due_at:%H:%M:%S}"):
        assert said in log
    assert f"/{message.pk}/resend" not in log, "it is repeated by itself"
    assert "failing" in text(client.get(LIST))


def test_what_was_given_up_is_in_sight_and_is_sent_again_one_or_all(
    client: Client, hook: Subscription, receiver: Receiver
) -> None:
    for _ in range(3):
        client.post(f"{LIST}{hook.pk}/test")
    Delivery.objects.update(state=DeliveryState.GIVEN_UP, last_error="answered 500", response_status=500)
    assert 'aria-label="3 given up"' in text(client.get(LIST))
    log = text(client.get(f"{LIST}{hook.pk}/messages/?state=given_up"))
    assert "Send all 3 again" in log
    one = Delivery.objects.order_by("id")[0]
    assert client.post(f"{LIST}{hook.pk}/messages/{one.pk}/resend").status_code == 302
    assert send_all() == [DeliveryState.DELIVERED]
    assert client.post(f"{LIST}{hook.pk}/resend").status_code == 302
    assert send_all() == [DeliveryState.DELIVERED] * 2
    assert not Delivery.objects.exclude(state=DeliveryState.DELIVERED).exists()
    assert {row.headers["webhook-id"] for row in receiver.came} == set(Delivery.objects.values_list("pk", flat=True))
    again = client.post(f"{LIST}{hook.pk}/resend", follow=True)
    assert "No message of this webhook was given up." in text(again)


def test_a_new_secret_is_shown_once_with_the_end_of_the_old_one(client: Client, hook: Subscription) -> None:
    page = text(client.post(f"{LIST}{hook.pk}/rotate"))
    hook.refresh_from_db()
    assert hook.previous_until is not None
    assert re.search(r"<pre>whsec_", page)
    assert f"{hook.previous_until:%Y-%m-%d %H:%M}" in page
    assert "<pre>whsec_" not in text(client.get(f"{LIST}{hook.pk}/"))


def test_paused_it_sends_nothing_and_switched_on_it_goes_on(
    client: Client, hook: Subscription, receiver: Receiver
) -> None:
    client.post(f"{LIST}{hook.pk}/test")
    client.post(f"{LIST}{hook.pk}/switch", {"state": "paused"})
    assert send_all() == [None]
    assert "it waits until the webhook is on" in text(client.get(f"{LIST}{hook.pk}/messages/"))
    refused = client.post(f"{LIST}{hook.pk}/test", follow=True)
    assert "switch it on before you test it" in text(refused)
    client.post(f"{LIST}{hook.pk}/switch", {"state": "active"})
    assert send_all() == [DeliveryState.DELIVERED]
    assert client.post(f"{LIST}{hook.pk}/switch", {"state": "disabled"}).status_code == 422


def test_one_that_was_switched_off_by_pilothouse_says_why(client: Client, hook: Subscription) -> None:
    Subscription.objects.update(state=SubscriptionState.DISABLED, reason="It answered 410 Gone. Last: answered 410")
    page = text(client.get(f"{LIST}{hook.pk}/"))
    assert "Pilothouse switched it off. It answered 410 Gone." in page
    assert "Switch on" in page


def test_removing_it_takes_its_messages(client: Client, hook: Subscription) -> None:
    client.post(f"{LIST}{hook.pk}/test")
    assert client.post(f"{LIST}{hook.pk}/delete").headers["Location"] == LIST
    assert not Delivery.objects.exists()
    assert client.get(f"{LIST}{hook.pk}/").status_code == 404


PATHS = ("", "edit/", "messages/")
POSTS = ("edit/", "switch", "rotate", "delete", "test", "resend", "messages/msg_1/resend")


def test_another_teams_webhook_is_not_there_for_any_door(client: Client, receiver: Receiver) -> None:
    team_create(actor=SYSTEM, slug="globex")
    eve = actor_of(make_user("eve-of-globex", frozenset({Role.ADMIN}), Team.objects.get(slug="globex")))
    theirs, _ = subscription_create(actor=eve, name="theirs", url=receiver.url, events=["alias.moved"])
    before = list(Subscription.objects.values())
    assert {client.get(f"{LIST}{theirs.pk}/{tail}").status_code for tail in PATHS} == {404}
    assert {client.post(f"{LIST}{theirs.pk}/{tail}", form(state="paused")).status_code for tail in POSTS} == {404}
    assert "theirs" not in text(client.get(LIST))
    assert client.post(NEW, form(team="globex")).status_code == 422, "nor is one made there"
    assert list(Subscription.objects.values()) == before


@pytest.mark.parametrize("role", [role for role in Role if "webhook.write" not in ACTIONS[role]])
def test_whoever_may_not_use_the_api_gets_neither_page_nor_tab(hook: Subscription, acme: Team, role: Role) -> None:
    other = Client()
    other.force_login(make_user(f"{role}-of-acme", frozenset({role}), acme))
    assert {other.get(path).status_code for path in (LIST, NEW, f"{LIST}{hook.pk}/")} == {403}
    assert {other.post(f"{LIST}{hook.pk}/{tail}", form()).status_code for tail in POSTS} == {403}
    assert LIST not in text(other.get("/settings/freezes/"))


def test_a_form_of_another_site_changes_nothing(ada: Actor, hook: Subscription) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.get(pk=ada.id))
    assert strict.post(NEW, form(name="other")).status_code == 403
    assert {strict.post(f"{LIST}{hook.pk}/{tail}", form()).status_code for tail in POSTS} == {403}
    assert Subscription.objects.count() == 1


def test_fields_that_the_form_does_not_have_change_nothing(client: Client, hook: Subscription) -> None:
    before = Subscription.objects.values("secret", "state", "team_id", "created_by", "revision").get()
    extra = {"secret": "x", "state": "disabled", "team": "globex", "team_id": "1", "created_by": "x", "revision": 99}
    client.post(f"{LIST}{hook.pk}/edit/", form(**extra))
    after = Subscription.objects.values("secret", "state", "team_id", "created_by", "revision").get()
    assert after == {**before, "revision": before["revision"] + 1}


def test_the_tab_leads_there_and_a_list_of_fifty_costs_what_a_list_of_one_does(
    client: Client, ada: Actor, hook: Subscription
) -> None:
    assert f'href="{LIST}"' in text(client.get("/settings/freezes/"))
    with CaptureQueriesContext(connection) as few:
        client.get(LIST)
    for number in range(50):
        subscription_create(actor=ada, name=f"n{number}", url="https://example.com", events=["alias.moved"])
    with CaptureQueriesContext(connection) as many:
        client.get(LIST)
    assert len(many) == len(few) <= 10


def test_a_log_of_many_messages_is_read_page_by_page(client: Client, hook: Subscription) -> None:
    Delivery.objects.bulk_create(
        Delivery(subscription=hook, event="alias.moved", source=str(number), body="{}", state="delivered")
        for number in range(70)
    )
    seen: list[str] = []
    query = ""
    while True:
        page = text(client.get(f"{LIST}{hook.pk}/messages/?state={query}"))
        seen += re.findall(r'id="body-(msg_\w+)"', page)
        more = re.search(r"&amp;before=(msg_\w+)", page)
        if more is None:
            break
        query = f"&before={more[1]}"
    assert seen == list(Delivery.objects.order_by("-id").values_list("pk", flat=True))


def test_old_messages_go_and_those_that_wait_stay(hook: Subscription) -> None:
    from datetime import timedelta

    ages = {"delivered": (29, 31), "given_up": (89, 91), "waiting": (400,)}
    for state, days in ages.items():
        for age in days:
            settled = None if state == "waiting" else now() - timedelta(days=age)
            Delivery.objects.create(
                subscription=hook, event="x", source=f"{state}{age}", body="{}", state=state, settled_at=settled
            )
    assert deliveries_prune() == 2
    assert set(Delivery.objects.values_list("source", flat=True)) == {"delivered29", "given_up89", "waiting400"}
