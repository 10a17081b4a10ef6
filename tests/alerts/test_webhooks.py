"""Webhooks out: what happened reaches a real HTTP server, signed so that the published algorithm agrees."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import timedelta
from typing import Any

import pytest
import time_machine

from apps.accounts.models import Team
from apps.accounts.services.teams import team_create
from apps.alerts.domain.events import EVENTS, event_of, is_wanted
from apps.alerts.domain.states import DeliveryState, SubscriptionState
from apps.alerts.models import Delivery, Subscription
from apps.alerts.selectors import deliveries_due, subscription_get
from apps.alerts.services import places
from apps.alerts.services.fan_out import endpoints_look, events_collect
from apps.alerts.services.places import EndpointHealth
from apps.alerts.services.send import MAX_ATTEMPTS, delivery_redeliver, delivery_send
from apps.alerts.services.subscriptions import (
    subscription_create,
    subscription_delete,
    subscription_rotate,
    subscription_update,
)
from apps.audit.models import Event
from apps.kernel.actor import SYSTEM, Actor
from apps.kernel.clock import now
from apps.kernel.errors import Conflict, InvalidInput, NotFound
from apps.kernel.models import OutboxEntry
from apps.kernel.telling import pause_seconds, signed_headers
from apps.kernel.vault import VaultFault, vault_rotate
from apps.registry.models import Model
from apps.registry.services.register import alias_move, model_create, version_register
from apps.rollouts.domain.machine import Phase
from tests.alerts.conftest import Received, Receiver
from tests.api.world import artifact

pytestmark = pytest.mark.django_db


def agrees(secret: str, message: Received) -> bool:
    """The verification as the specification of Standard Webhooks 1.0.0 writes it, done here anew."""
    key = base64.b64decode(secret[len("whsec_") :])
    signed = f"{message.headers['webhook-id']}.{message.headers['webhook-timestamp']}.{message.body.decode('utf-8')}"
    wanted = base64.b64encode(hmac.new(key, signed.encode("utf-8"), hashlib.sha256).digest()).decode()
    given = [one.partition(",") for one in message.headers["webhook-signature"].split(" ")]
    return any(version == "v1" and hmac.compare_digest(value, wanted) for version, _, value in given)


def hook(ada: Actor, receiver: Receiver, *events: str, **more: Any) -> tuple[Subscription, str]:
    made = subscription_create(actor=ada, name="chat", url=receiver.url, events=events or ("version.*",), **more)
    events_collect()  # from here on
    return made


def a_model_of(team: Team, name: str, folder: Any) -> None:
    """Registers 1.0.0 and moves an alias."""
    model_create(actor=SYSTEM, name=name)
    Model.objects.filter(name=name).update(team=team)
    version_register(actor=SYSTEM, model_name=name, semver="1.0.0", path=artifact(folder / name, name))
    alias_move(actor=SYSTEM, model_name=name, alias="newest", version="1.0.0", expected=None)


def collect_all() -> None:
    while events_collect():
        pass


def send_all() -> list[DeliveryState | None]:
    return [delivery_send(one) for one in deliveries_due()]


def test_the_signature_is_that_of_the_published_example() -> None:
    # the example of the specification's reference libraries
    headers = signed_headers(
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_what_happened_reaches_the_address_signed(ada: Actor, acme: Team, receiver: Receiver, tmp_path: Any) -> None:
    _, secret = hook(ada, receiver, "version.registered", "alias.*")
    a_model_of(acme, "churn", tmp_path)
    collect_all()
    assert OutboxEntry.objects.filter(name="alerts.send").count() == 2
    assert send_all() == [DeliveryState.DELIVERED] * 2
    assert [json.loads(one.body)["type"] for one in receiver.came] == ["version.registered", "alias.moved"]
    for message in receiver.came:
        assert agrees(secret, message)
        assert not agrees(secret, Received(message.headers, message.body + b" "))
        assert abs(int(message.headers["webhook-timestamp"]) - now().timestamp()) < 300
    told = json.loads(receiver.came[0].body)
    assert (told["data"]["team"], told["data"]["environment"]) == ("acme", None)
    assert "churn" in told["data"]["label"]
    assert told["data"]["audit_seq"] == Event.objects.get(verb="version.registered").seq
    assert send_all() == []


def test_another_team_hears_nothing(ada: Actor, receiver: Receiver, tmp_path: Any) -> None:
    hook(ada, receiver, "version.*", "alias.*")
    a_model_of(team_create(actor=SYSTEM, slug="globex"), "theirs", tmp_path)
    collect_all()
    assert not Delivery.objects.exists()


def test_an_entry_is_told_once_however_often_the_log_is_read(
    ada: Actor, acme: Team, receiver: Receiver, tmp_path: Any
) -> None:
    hook(ada, receiver, "version.registered")
    a_model_of(acme, "churn", tmp_path)
    assert events_collect() > 0
    assert events_collect() == 0
    assert Delivery.objects.count() == 1


def test_old_news_are_not_told_to_who_comes_later(ada: Actor, acme: Team, receiver: Receiver, tmp_path: Any) -> None:
    a_model_of(acme, "churn", tmp_path)
    hook(ada, receiver, "version.*")
    collect_all()
    assert not Delivery.objects.exists()


def test_a_failure_is_repeated_later_under_the_same_id(
    ada: Actor, acme: Team, receiver: Receiver, tmp_path: Any
) -> None:
    row, secret = hook(ada, receiver, "version.registered")
    receiver.status = 503
    a_model_of(acme, "churn", tmp_path)
    collect_all()
    start = now()
    with time_machine.travel(start, tick=False):
        assert send_all() == [DeliveryState.WAITING]
        assert send_all() == [], "not before its time"
    receiver.status = 200
    with time_machine.travel(start + timedelta(minutes=2), tick=False):
        assert send_all() == [DeliveryState.DELIVERED]
    first, second = receiver.came
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    assert first.headers["webhook-timestamp"] != second.headers["webhook-timestamp"]
    assert agrees(secret, second)
    row.refresh_from_db()
    assert row.failing_since is None


def test_pauses_double_to_six_hours_and_are_never_quite_the_same() -> None:
    middle = [10, 20, 40, 80]
    for attempts, wanted in enumerate(middle, start=1):
        assert all(0.8 * wanted <= pause_seconds(attempts) <= 1.2 * wanted for _ in range(50))
    assert pause_seconds(19) <= 1.2 * 6 * 3600
    assert len({pause_seconds(8) for _ in range(50)}) > 10


def test_after_days_of_failures_it_is_switched_off_and_the_log_says_so(
    ada: Actor, acme: Team, receiver: Receiver, tmp_path: Any
) -> None:
    row, _ = hook(ada, receiver, "version.registered")
    receiver.status = 500
    a_model_of(acme, "churn", tmp_path)
    collect_all()
    start = now()
    for day in range(7):
        with time_machine.travel(start + timedelta(days=day), tick=False):
            send_all()
    row.refresh_from_db()
    assert row.state == SubscriptionState.DISABLED
    assert "answered 500" in row.reason
    entry = Event.objects.get(verb="subscription.disabled")
    assert (entry.actor_kind, entry.subject_id) == ("system", row.pk)
    on = subscription_update(actor=ada, subscription_id=row.pk, state="active")
    assert (on.state, on.reason, on.failing_since) == ("active", "", None)


def test_an_address_that_is_gone_is_switched_off_at_once(
    ada: Actor, acme: Team, receiver: Receiver, tmp_path: Any
) -> None:
    row, _ = hook(ada, receiver, "version.registered")
    receiver.status = 410
    a_model_of(acme, "churn", tmp_path)
    collect_all()
    assert send_all() == [DeliveryState.GIVEN_UP]
    row.refresh_from_db()
    assert (row.state, "410" in row.reason) == (SubscriptionState.DISABLED, True)


def test_a_message_that_was_given_up_can_be_sent_again(
    ada: Actor, acme: Team, receiver: Receiver, tmp_path: Any
) -> None:
    row, secret = hook(ada, receiver, "version.registered")
    receiver.status = 500
    a_model_of(acme, "churn", tmp_path)
    collect_all()
    Delivery.objects.update(attempts=MAX_ATTEMPTS - 1)
    assert send_all() == [DeliveryState.GIVEN_UP]
    given_up = Delivery.objects.get()
    receiver.status = 200
    delivery_redeliver(actor=ada, subscription=row, delivery_id=given_up.pk)
    with pytest.raises(Conflict):
        delivery_redeliver(actor=ada, subscription=row, delivery_id=given_up.pk)
    assert send_all() == [DeliveryState.DELIVERED]
    assert {one.headers["webhook-id"] for one in receiver.came} == {given_up.pk}
    assert agrees(secret, receiver.came[-1])
    assert Event.objects.filter(verb="subscription.redelivered").count() == 1


def test_while_a_secret_is_replaced_both_sign_and_after_a_day_only_the_new_one(
    ada: Actor, acme: Team, receiver: Receiver, tmp_path: Any
) -> None:
    row, old = hook(ada, receiver, "version.registered", "alias.moved")
    row, new = subscription_rotate(actor=ada, subscription_id=row.pk)
    a_model_of(acme, "churn", tmp_path)
    collect_all()
    first, second = deliveries_due()
    delivery_send(first)
    assert (agrees(old, receiver.came[0]), agrees(new, receiver.came[0])) == (True, True)
    with time_machine.travel(now() + timedelta(hours=25), tick=False):
        delivery_send(second)
    assert (agrees(old, receiver.came[1]), agrees(new, receiver.came[1])) == (False, True)


def test_a_secret_is_nowhere_but_in_its_answer(ada: Actor, receiver: Receiver) -> None:
    row, secret = hook(ada, receiver)
    row, newer = subscription_rotate(actor=ada, subscription_id=row.pk)
    stored = json.dumps([list(Subscription.objects.values_list()), list(Event.objects.values_list())], default=str)
    for text in (secret, newer):
        assert text not in stored
        assert text.removeprefix("whsec_") not in stored
    other = Subscription.objects.create(
        team=row.team, name="other", url=row.url, events=["alias.moved"], secret=row.secret, created_by="x"
    )
    with pytest.raises(VaultFault):  # a sealed text that was copied to another row opens nothing
        delivery_send(Delivery.objects.create(subscription=other, event="x", source="x", body="{}").pk)


def test_a_new_key_of_the_vault_seals_the_secrets_too(
    ada: Actor, acme: Team, receiver: Receiver, tmp_path: Any, settings: Any
) -> None:
    settings.PILOTHOUSE_VAULT_FILE = tmp_path / "ring.json"
    row, secret = hook(ada, receiver, "version.registered")
    before = row.secret
    assert vault_rotate() >= 1
    assert Subscription.objects.get(pk=row.pk).secret != before
    a_model_of(acme, "churn", tmp_path)
    collect_all()
    send_all()
    assert agrees(secret, receiver.came[0])


def test_an_address_inside_is_not_called_unless_an_operator_opens_it(
    ada: Actor, acme: Team, receiver: Receiver, tmp_path: Any, settings: Any
) -> None:
    hook(ada, receiver, "version.registered")
    settings.PILOTHOUSE_OUTBOUND_ALLOW = ()
    a_model_of(acme, "churn", tmp_path)
    collect_all()
    assert send_all() == [DeliveryState.GIVEN_UP]
    assert "PILOTHOUSE_OUTBOUND_ALLOW" in Delivery.objects.get().last_error
    assert receiver.came == []


def test_an_endpoint_is_told_of_once_when_it_gets_worse_and_once_when_it_is_well(
    ada: Actor, acme: Team, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook(ada, receiver, "endpoint.*", environments=["production"])
    bad = {"late": True, "elsewhere": True}

    def healths() -> list[EndpointHealth]:
        return [
            EndpointHealth("ep_1", "late", acme.pk, "production", bad["late"], "2.0.0 is not ready."),
            EndpointHealth("ep_2", "elsewhere", acme.pk, "staging", bad["elsewhere"], "2.0.0 is not ready."),
        ]

    monkeypatch.setattr(places, "_HEALTH", [healths])
    assert (endpoints_look(), endpoints_look()) == (2, 0)
    bad["late"] = False
    assert (endpoints_look(), endpoints_look()) == (1, 0)
    told = [json.loads(text) for text in Delivery.objects.order_by("id").values_list("body", flat=True)]
    assert [one["type"] for one in told] == ["endpoint.degraded", "endpoint.recovered"]
    assert {one["data"]["label"] for one in told} == {"late"}
    assert told[0]["data"]["reason"] == "2.0.0 is not ready."


def test_every_phase_of_a_rollout_has_an_event_and_staying_in_one_has_none() -> None:
    assert {f"rollout.{phase}" for phase in Phase} == {name for name in EVENTS if name.startswith("rollout.")}
    assert event_of("rollout.transitioned", {"from": "baking", "to": "promoting"}) == "rollout.promoting"
    assert event_of("rollout.transitioned", {"from": "baking", "to": "baking"}) is None
    assert event_of("rollout.created", {}) == "rollout.pending"
    assert event_of("token.created", {}) is None
    assert is_wanted(["rollout.*"], "rollout.failed")
    assert not is_wanted(["rollout.*"], "review.opened")


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"url": "ftp://example.com/x"}, "/url"),
        ({"url": "https://me:secret@example.com/"}, "/url"),
        ({"url": "https://exa mple.com/"}, "/url"),
        ({"url": "https://[::1"}, "/url"),
        ({"events": ["rollout.flying"]}, "/events"),
        ({"events": []}, "/events"),
        ({"environments": ["moon"]}, "/environments"),
        ({"name": "two\nlines"}, "/name"),
    ],
)
def test_what_cannot_be_told_is_refused_by_its_field(ada: Actor, wrong: dict[str, Any], pointer: str) -> None:
    right = {"name": "chat", "url": "https://hooks.example.com/x", "events": ["rollout.*"]}
    with pytest.raises(InvalidInput) as refused:
        subscription_create(actor=ada, **{**right, **wrong})
    assert [one.pointer for one in refused.value.fields] == [pointer]
    assert not Subscription.objects.exists()


def test_a_name_is_taken_once_per_team_and_removal_is_recorded(ada: Actor, receiver: Receiver) -> None:
    row, _ = hook(ada, receiver)
    with pytest.raises(Conflict):
        subscription_create(actor=ada, name="chat", url=receiver.url, events=["alias.moved"])
    subscription_delete(actor=ada, subscription_id=row.pk)
    with pytest.raises(NotFound):
        subscription_get(ada, row.pk)
    verbs = Event.objects.filter(subject_id=row.pk).order_by("seq").values_list("verb", flat=True)
    assert list(verbs) == ["subscription.created", "subscription.deleted"]
