"""One attempt of one notice, sending one again, a test, and forgetting old ones. Runs in the worker."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from django.db import transaction

from apps.alerts.domain.incidents import Severity
from apps.alerts.domain.messages import TEST, Message, stamp
from apps.alerts.domain.states import ChannelKind, ChannelState, DeliveryState
from apps.alerts.drivers.http import opsgenie_send, pagerduty_send, webhook_send
from apps.alerts.models import Channel, Notice, notice_id
from apps.alerts.selectors import channel_get
from apps.alerts.services.channels import address_open, secret_open
from apps.alerts.services.notices import whole
from apps.alerts.services.timing import settled_prune
from apps.audit.services.record import event_record
from apps.kernel.actor import Actor
from apps.kernel.clock import now
from apps.kernel.errors import Conflict, NotFound
from apps.kernel.services.outbox import enqueue_task
from apps.kernel.telling import Outcome, pause_seconds

GIVE_UP_AFTER: Final = timedelta(hours=24)
LONGEST_PAUSE_SECONDS: Final = 15 * 60
CLAIM: Final = timedelta(seconds=90)
AFTER_ITS_ELDER: Final = timedelta(seconds=5)


def notice_send(notice: str) -> DeliveryState | None:
    """The state it has then, None when there is nothing to do.

    1. claim it by pushing its due time on; one that has an elder about the same incident still waiting for the same
       channel waits too, or an end could arrive before its beginning; 2. send, outside any transaction; 3. write what
       came of it. A crash between 2 and 3 repeats the message, under the same id and key of deduplication.
    """
    moment = now()
    with transaction.atomic():
        found = (
            Notice.objects.select_for_update(skip_locked=True, of=("self",))
            .select_related("channel")
            .filter(pk=notice, state=DeliveryState.WAITING, due_at__lte=moment, channel__state=ChannelState.ACTIVE)
            .first()
        )
        if found is None:
            return None
        if _has_elder(found):
            Notice.objects.filter(pk=found.pk).update(due_at=moment + AFTER_ITS_ELDER)
            return None
        found.attempts += 1
        found.due_at = moment + CLAIM
        found.save(update_fields=["attempts", "due_at"])
    return _settle(found, _sent(found))


def notice_resend(*, actor: Actor, channel: Channel, notice: str) -> Notice:
    """Send a message again that was delivered or given up. Raises NotFound, Conflict."""
    with transaction.atomic():
        found = Notice.objects.select_for_update().filter(pk=notice, channel=channel).first()
        if found is None:
            raise NotFound("notice_unknown", "There is no such message.")
        if found.state == DeliveryState.WAITING:
            raise Conflict("notice_waits", "This message waits for its next attempt already.")
        found.state, found.attempts, found.last_error, found.settled_at = DeliveryState.WAITING, 0, "", None
        found.due_at = found.tried_since = now()
        found.save()
        enqueue_task("alerts.notice", notice_id=found.pk)
        event_record(
            actor=actor, verb="channel.resent", subject_kind="channel", subject_id=channel.pk,
            subject_label=channel.name, detail={"notice": found.pk, "kind": found.kind},
        )  # fmt: skip
    return found


def channel_test(*, actor: Actor, channel_id: str) -> Notice:
    """A message that says it is a test, on the way of every other one. Raises NotFound, Conflict (paused)."""
    with transaction.atomic():
        channel, moment, pk = channel_get(actor, channel_id), now(), notice_id()
        if channel.state != ChannelState.ACTIVE:
            raise Conflict("channel_paused", "This channel is paused; switch it on before you test it.")
        page = whole(f"/settings/alerting/{channel.pk}/")
        told = {"object": "channel", "id": channel.pk, "name": channel.name, "team": channel.team.slug, "page": page}
        row = Notice.objects.create(
            id=pk, channel=channel, kind=TEST, subject=f"[test] alerts of {channel.team.slug} reach {channel.name}",
            body=f"This is a test, asked for by {actor.label}. Nothing is wrong.\nOpen: {page}",
            data={"type": "alert.test", "timestamp": stamp(moment), "data": told}, created_at=moment,
            tried_since=moment, due_at=moment,
        )  # fmt: skip
        enqueue_task("alerts.notice", notice_id=pk)
        event_record(
            actor=actor, verb="channel.tested", subject_kind="channel", subject_id=channel.pk,
            subject_label=channel.name, detail={"notice": pk},
        )  # fmt: skip
    return row


def notices_prune() -> int:
    """Forget messages that were settled long ago; how many."""
    return settled_prune(Notice.objects.all())


def _has_elder(found: Notice) -> bool:
    if found.incident_id is None:
        return False
    return Notice.objects.filter(
        channel=found.channel_id, incident=found.incident_id, state=DeliveryState.WAITING, pk__lt=found.pk
    ).exists()


def _sent(found: Notice) -> Outcome:
    channel, message = found.channel, _message(found)
    url, kind = address_open(channel), ChannelKind(channel.kind)
    match kind:
        case ChannelKind.WEBHOOK:
            return webhook_send(url, secret_open(channel), message, int(now().timestamp()))
        case ChannelKind.PAGERDUTY:
            return pagerduty_send(url, message)
        case ChannelKind.OPSGENIE:
            return opsgenie_send(url, message)
        case _:
            from apps.alerts.drivers.chat import chat_send  # Apprise is heavy, and few processes ever send

            return chat_send(kind, url, message)


def _message(found: Notice) -> Message:
    data: dict[str, Any] = found.data
    told = data.get("data", {})
    return Message(
        id=found.pk, kind=found.kind, severity=told.get("severity", Severity.TICKET.value),
        dedup_key=found.incident_id or found.pk, subject=found.subject, body=found.body, link=told.get("page", ""),
        data=data,
    )  # fmt: skip


def _settle(found: Notice, outcome: Outcome) -> DeliveryState:
    moment = now()
    if outcome.is_success or 200 <= outcome.status < 300:
        found.state = DeliveryState.DELIVERED
    elif outcome.is_final or moment - found.tried_since >= GIVE_UP_AFTER:
        found.state = DeliveryState.GIVEN_UP
    found.last_error = "" if found.state == DeliveryState.DELIVERED else _why(outcome)
    found.due_at = moment + timedelta(seconds=min(LONGEST_PAUSE_SECONDS, pause_seconds(found.attempts)))
    found.settled_at = None if found.state == DeliveryState.WAITING else moment
    with transaction.atomic():
        found.save(update_fields=["state", "last_error", "due_at", "settled_at"])
        channel = Channel.objects.select_for_update().get(pk=found.channel_id)
        since = None if found.state == DeliveryState.DELIVERED else channel.failing_since or moment
        if since != channel.failing_since:
            Channel.objects.filter(pk=channel.pk).update(failing_since=since)
    return DeliveryState(found.state)


def _why(outcome: Outcome) -> str:
    return (outcome.error or f"answered {outcome.status}")[:1000]
