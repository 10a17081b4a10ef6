"""Who is told of an alert, by which way, how often, and what happens when nobody answers. Real servers receive."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from apprise.plugins.slack import NotifySlack
from apprise.plugins.workflows import NotifyWorkflows

from apps.accounts.models import Team
from apps.alerts.domain.states import ChannelState, DeliveryState
from apps.alerts.drivers import http
from apps.alerts.models import Channel, IncidentChange, Notice
from apps.alerts.selectors import notices_due
from apps.alerts.services.channels import (
    channel_create,
    channel_delete,
    channel_update,
    route_create,
)
from apps.alerts.services.commands import (
    incident_acknowledge,
    incident_silence,
    incidents_remind,
)
from apps.alerts.services.sending import channel_test, notice_resend, notice_send
from apps.audit.models import Event
from apps.kernel.actor import Actor
from apps.kernel.clock import set_clock
from apps.kernel.errors import Conflict, InvalidInput
from apps.kernel.models import OutboxEntry
from tests.alerts.conftest import Receiver
from tests.alerts.test_incidents import Clock, burn, observe
from tests.alerts.test_webhooks import agrees
from tests.fakes.smtp import Mailbox, smtp_server

pytestmark = pytest.mark.django_db

KEYS = {"pagerduty": "0123456789abcdef0123456789abcdef", "opsgenie": "01234567-89ab-cdef-0123-456789abcdef"}
SLACK = "slack://T0PILOT01/B0PILOT01/aPlaceForTheWebhooksKey"


@pytest.fixture
def clock() -> Iterator[Clock]:
    found = Clock()
    found.at = datetime.now(UTC)
    with set_clock(found):
        yield found


@pytest.fixture
def mailbox(settings: Any) -> Iterator[Mailbox]:
    with smtp_server() as box:
        settings.PILOTHOUSE_OUTBOUND_ALLOW = (f"127.0.0.1:{box.port}",)
        yield box


def mail(box: Mailbox) -> str:
    return f"mailto://127.0.0.1:{box.port}?from=pilothouse@example.com&to=oncall@example.com"


def webhook(ada: Actor, receiver: Receiver, name: str = "hook", **more: Any) -> tuple[Channel, str]:
    return channel_create(actor=ada, name=name, kind="webhook", address=receiver.url, **more)


def send_all() -> list[DeliveryState | None]:
    return [notice_send(one) for one in notices_due()]


def bodies(receiver: Receiver) -> list[dict[str, Any]]:
    return [json.loads(one.body) for one in receiver.came]


def kinds(channel: Channel) -> list[str]:
    return list(Notice.objects.filter(channel=channel).order_by("id").values_list("kind", flat=True))


def test_a_change_is_told_once_signed_and_an_evaluation_never(
    acme: Team, ada: Actor, receiver: Receiver, clock: Clock
) -> None:
    channel, secret = webhook(ada, receiver)
    for _ in range(5):
        observe(burn(acme, "page"))
        clock.passes(seconds=70)
    assert send_all() == [DeliveryState.DELIVERED]
    assert send_all() == []
    assert OutboxEntry.objects.filter(name="alerts.notice").count() == 1
    assert agrees(secret, receiver.came[0])
    (told,) = bodies(receiver)
    assert told["type"] == "alert.opened"
    assert told["data"]["facts"]["seconds_to_exhaustion"] == 10_800
    assert told["data"]["page"].endswith(f"/alerts/{told['data']['id']}/")
    assert kinds(channel) == ["opened"]


def test_the_mail_says_what_since_when_the_numbers_and_where_to_look(
    acme: Team, ada: Actor, mailbox: Mailbox, clock: Clock
) -> None:
    channel_create(actor=ada, name="mail", kind="email", address=mail(mailbox))
    observe(burn(acme, "page", runbook_url="https://runbooks.example.com/fraud", link="/endpoints/fraud/"))
    assert send_all() == [DeliveryState.DELIVERED]
    sender, recipients, message = mailbox.came[0]
    assert (sender, recipients) == ("pilothouse@example.com", ["oncall@example.com"])
    assert message["Subject"] == "[PAGE] fraud: availability (production)"
    text = message.get_content()
    assert text.index("The error budget is gone in 3 h.") < text.index("factor: 20")
    assert f"Since: {clock.at:%Y-%m-%d %H:%M} UTC" in text
    assert "1 h at 20.0x, 5 min at 22.1x; limit 14.4x" in text
    assert "Runbook: https://runbooks.example.com/fraud" in text
    assert "/endpoints/fraud/" in text


def test_a_title_with_line_breaks_adds_no_header(acme: Team, ada: Actor, mailbox: Mailbox, clock: Clock) -> None:
    channel_create(actor=ada, name="mail", kind="email", address=mail(mailbox))
    observe(burn(acme, "page", title="x\r\nBcc: everybody@example.com\r\n\r\nhello"))
    assert send_all() == [DeliveryState.DELIVERED]
    assert "Bcc" not in mailbox.came[0][2]
    assert mailbox.came[0][1] == ["oncall@example.com"]


def test_slack_gets_it_through_apprise(
    acme: Team, ada: Actor, receiver: Receiver, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NotifySlack, "webhook_url", receiver.url)
    receiver.answer = b"ok"
    channel, _ = channel_create(actor=ada, name="slack", kind="slack", address=SLACK)
    observe(burn(acme, "page", title="<!channel> fraud"))
    assert send_all() == [DeliveryState.DELIVERED], Notice.objects.get().last_error
    text = receiver.came[0].body.decode()
    assert "The error budget is gone in 3 h." in text
    assert "<!channel>" not in text, "a name from outside calls nobody"
    receiver.answer = b"invalid_token"
    receiver.status = 403
    channel_test(actor=ada, channel_id=channel.pk)
    assert send_all() == [DeliveryState.WAITING]
    assert "403" in Notice.objects.get(kind="test").last_error


@pytest.mark.parametrize("kind", ["pagerduty", "opsgenie"])
def test_an_incident_there_ends_with_the_incident_here(
    acme: Team, ada: Actor, olga: Actor, receiver: Receiver, clock: Clock, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setitem(http.PAGERDUTY, "us", receiver.url)
    monkeypatch.setitem(http.OPSGENIE, "us", receiver.url)
    channel_create(actor=ada, name=kind, kind=kind, address=f"{kind}://{KEYS[kind]}")
    (row,) = observe(burn(acme, "page"))
    incident_acknowledge(actor=olga, incident_id=row.pk)
    observe(burn(acme, None))
    while due := notices_due():
        assert [notice_send(one) for one in due]
        clock.passes(seconds=6)
    if kind == "pagerduty":
        told = [(one["event_action"], one["dedup_key"], one["routing_key"]) for one in bodies(receiver)]
        assert told == [(verb, row.pk, KEYS[kind]) for verb in ("trigger", "acknowledge", "resolve")]
    else:
        paths = [one.path for one in receiver.came]
        assert paths == ["/hook", *(f"/hook/{row.pk}/{verb}?identifierType=alias" for verb in ("acknowledge", "close"))]
        assert bodies(receiver)[0]["alias"] == row.pk
        assert receiver.came[0].headers["authorization"] == f"GenieKey {KEYS[kind]}"


def test_routes_choose_and_the_rest_goes_to_the_default_and_is_said(
    acme: Team, ada: Actor, receiver: Receiver, clock: Clock
) -> None:
    default, _ = webhook(ada, receiver, "default")
    pager, _ = webhook(ada, receiver, "pager")
    both, _ = webhook(ada, receiver, "both")
    route_create(actor=ada, channels=[pager.pk, both.pk], severity="page", environment="production")
    route_create(actor=ada, channels=[both.pk], source="slo")
    observe(burn(acme, "page"))
    observe(burn(acme, "ticket", key="slo:2"))
    observe(burn(acme, "ticket", key="drift:1", source="drift"))
    assert (len(kinds(pager)), len(kinds(both)), len(kinds(default))) == (1, 2, 1)
    change = IncidentChange.objects.get(incident__key="drift:1")
    assert change.detail["told"] == ["default"]
    assert change.detail["remark"] == "No route fits; it goes to default, the default of acme."


def test_a_team_without_a_channel_reads_that_nobody_is_told(acme: Team, clock: Clock) -> None:
    observe(burn(acme, "page"))
    assert IncidentChange.objects.get().detail["remark"].startswith("Nobody is told: acme has no route")


def test_a_page_is_repeated_until_somebody_takes_it_on(
    acme: Team, ada: Actor, olga: Actor, receiver: Receiver, clock: Clock
) -> None:
    channel, _ = webhook(ada, receiver)
    (row,) = observe(burn(acme, "page"))
    observe(burn(acme, "ticket", key="slo:ticket"))
    clock.passes(minutes=29)
    assert incidents_remind() == 0
    clock.passes(minutes=1)
    assert incidents_remind() == 1
    assert incidents_remind() == 0
    incident_acknowledge(actor=olga, incident_id=row.pk)
    clock.passes(hours=2)
    assert incidents_remind() == 0
    assert kinds(channel) == ["opened", "opened", "reminded", "acknowledged"]


def test_a_silence_holds_reminders_back_and_getting_worse_breaks_it(
    acme: Team, ada: Actor, olga: Actor, receiver: Receiver, clock: Clock
) -> None:
    channel, _ = webhook(ada, receiver)
    (row,) = observe(burn(acme, "page"))
    incident_silence(actor=olga, incident_id=row.pk, until=clock.at + timedelta(hours=2), reason="deploying")
    clock.passes(hours=1)
    assert incidents_remind() == 0
    clock.passes(hours=1)
    assert incidents_remind() == 1, "the silence is over and it still fires"
    (other,) = observe(burn(acme, "ticket", key="slo:2"))
    incident_silence(actor=olga, incident_id=other.pk, until=clock.at + timedelta(hours=2), reason="known")
    observe(burn(acme, "page", key="slo:2"))
    assert kinds(channel) == ["opened", "reminded", "opened", "worsened"]


def test_what_flaps_tells_its_end_when_it_has_stayed_quiet(
    acme: Team, ada: Actor, receiver: Receiver, clock: Clock
) -> None:
    channel, _ = webhook(ada, receiver)
    for _ in range(8):
        observe(burn(acme, "page"))
        clock.passes(minutes=1)
        send_all()
        observe(burn(acme, None))
        clock.passes(minutes=1)
        send_all()
    told = ["opened", "resolved", "reopened", "resolved", "reopened", "resolved", "reopened"]
    assert kinds(channel) == [*told, "resolved"]
    assert send_all() == [], "the last end waits"
    clock.passes(minutes=15)
    assert send_all() == [DeliveryState.DELIVERED]


def test_a_dead_address_is_tried_for_a_day_then_seen_and_sent_again(
    acme: Team, ada: Actor, receiver: Receiver, clock: Clock
) -> None:
    channel, _ = webhook(ada, receiver)
    receiver.status = 503
    observe(burn(acme, "page"))
    began = clock.at
    while Notice.objects.filter(state=DeliveryState.WAITING).exists():
        send_all()
        clock.passes(minutes=5)
    notice = Notice.objects.get()
    assert notice.settled_at is not None
    assert timedelta(hours=24) <= notice.settled_at - began < timedelta(hours=25)
    assert (notice.state, notice.last_error) == (DeliveryState.GIVEN_UP, "answered 503")
    assert Channel.objects.filter(failing_since__isnull=False).exists()
    receiver.status = 200
    notice_resend(actor=ada, channel=channel, notice=notice.pk)
    assert send_all() == [DeliveryState.DELIVERED]
    assert not Channel.objects.filter(failing_since__isnull=False).exists()
    assert len({one.headers["webhook-id"] for one in receiver.came}) == 1


def test_an_end_never_overtakes_its_beginning(acme: Team, ada: Actor, receiver: Receiver, clock: Clock) -> None:
    webhook(ada, receiver)
    observe(burn(acme, "page"))
    first = Notice.objects.get()
    Notice.objects.filter(pk=first.pk).update(due_at=clock.at + timedelta(minutes=10))
    observe(burn(acme, None))
    last = Notice.objects.exclude(pk=first.pk).get()
    assert notice_send(last.pk) is None
    clock.passes(minutes=10)
    assert notice_send(first.pk) == DeliveryState.DELIVERED
    assert notice_send(last.pk) == DeliveryState.DELIVERED
    assert [one["type"] for one in bodies(receiver)] == ["alert.opened", "alert.resolved"]


def test_an_inside_server_of_mail_is_not_called(
    acme: Team, ada: Actor, mailbox: Mailbox, clock: Clock, settings: Any
) -> None:
    channel, _ = channel_create(
        actor=ada, name="mail", kind="email", address=mail(mailbox).replace("127.0.0.1", "localhost")
    )
    settings.PILOTHOUSE_OUTBOUND_ALLOW = ()
    channel_test(actor=ada, channel_id=channel.pk)
    assert send_all() == [DeliveryState.GIVEN_UP]
    assert "no port of mail" in Notice.objects.get().last_error
    channel_update(
        actor=ada, channel_id=channel.pk, address="mailto://localhost:25?from=a@example.com&to=b@example.com"
    )
    channel_test(actor=ada, channel_id=channel.pk)
    assert send_all() == [DeliveryState.GIVEN_UP], Notice.objects.order_by("-id")[0].last_error
    assert "is inside" in Notice.objects.order_by("-id")[0].last_error
    assert mailbox.came == []


@pytest.mark.parametrize(
    ("kind", "address"),
    [
        ("slack", "https://evil.example.com/services/T1/A1/x"),
        ("slack", SLACK + "?template=/etc/passwd"),
        ("slack", SLACK + "?redirect=yes"),
        ("slack", SLACK + "?verify=no"),
        ("slack", "json://127.0.0.1/x"),
        ("slack", "slack://T9/A9"),
        ("teams", "workflows://127.0.0.1:443/0123456789abcdef0123456789abcdef/aPlaceForTheSignature"),
        ("teams", "workflows://x.logic.azure.com.evil.example/0123456789abcdef0123456789abcdef/aPlaceForTheSignature"),
        ("teams", "workflows://prod.logic.azure.com:8443/0123456789abcdef0123456789abcdef/aPlaceForTheSignature"),
        ("teams", "workflows://evil.example#.logic.azure.com/0123456789abcdef0123456789abcdef/aPlaceForTheSignature"),
        (
            "teams",
            "workflows://a.logic.azure.com/0123456789abcdef0123456789abcdef/aPlaceForTheSignature?template=file:///etc/passwd",
        ),
        ("pagerduty", "pagerduty://key@evil.example.com"),
        ("pagerduty", "pagerduty://xx"),
        ("pagerduty", f"pagerduty://{KEYS['pagerduty']}/path"),
        ("opsgenie", f"opsgenie://{KEYS['opsgenie']}?region=mars"),
        ("email", "mailtos://example.com?to=a@example.com&pgpprv=/etc/passwd"),
        ("email", "mailtos://example.com?to=a@example.com%0d%0aBcc:x@example.com"),
        ("email", "mailtos://u:p@example.com?smtp=smtp.example.com/x&to=a@example.com"),
        ("webhook", "https://user:pass@hooks.example.com/x"),
        ("email", "mailto://0x7f.1:25?from=a@example.com&to=b@example.com"),
        ("webhook", "ftp://hooks.example.com/x"),
        ("webhook", "file:///etc/passwd"),
        ("telegram", "tgram://1/2"),
    ],
)
def test_an_address_that_could_do_something_else_is_refused_and_not_repeated(
    ada: Actor, kind: str, address: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        channel_create(actor=ada, name="x", kind=kind, address=address)
    assert refused.value.fields[0].pointer in {"/address", "/kind"}
    assert address not in refused.value.detail
    assert not Channel.objects.exists()


def test_teams_is_asked_at_the_host_that_was_checked(ada: Actor) -> None:
    address = "workflows://prod-1.westeurope.logic.azure.com:443/0123456789abcdef0123456789abcdef/aPlaceForTheSignature"
    channel, secret = channel_create(actor=ada, name="teams", kind="teams", address=address)
    assert (channel.shown, secret) == ("prod-1.westeurope.logic.azure.com", "")
    parse: Any = NotifyWorkflows.parse_url
    assert parse(address)["host"] == channel.shown


def test_no_secret_is_stored_in_the_clear_or_told_by_the_log(ada: Actor, receiver: Receiver) -> None:
    channel, _ = channel_create(actor=ada, name="slack", kind="slack", address=SLACK)
    _, secret = webhook(ada, receiver)
    stored = json.dumps(list(Channel.objects.values()), default=str) + json.dumps(
        list(Event.objects.values("detail", "subject_label")), default=str
    )
    assert "aPlaceForTheWebhooksKey" not in stored
    assert secret not in stored
    assert channel.address.startswith("v1.")


def test_the_default_goes_last(ada: Actor, receiver: Receiver) -> None:
    first, _ = webhook(ada, receiver, "first")
    second, _ = webhook(ada, receiver, "second")
    assert (first.is_default, second.is_default) == (True, False)
    with pytest.raises(Conflict):
        channel_delete(actor=ada, channel_id=first.pk)
    channel_update(actor=ada, channel_id=second.pk, is_default=True)
    channel_delete(actor=ada, channel_id=first.pk)
    with pytest.raises(InvalidInput):
        channel_update(actor=ada, channel_id=second.pk, is_default=False)


def test_what_waits_for_a_paused_channel_is_sent_when_it_is_on_again(
    acme: Team, ada: Actor, receiver: Receiver, clock: Clock
) -> None:
    channel, _ = webhook(ada, receiver)
    observe(burn(acme, "page"))
    channel_update(actor=ada, channel_id=channel.pk, state=ChannelState.PAUSED)
    assert send_all() == []
    with pytest.raises(Conflict):
        channel_test(actor=ada, channel_id=channel.pk)
    channel_update(actor=ada, channel_id=channel.pk, state=ChannelState.ACTIVE)
    assert send_all() == [DeliveryState.DELIVERED]
