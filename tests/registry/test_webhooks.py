"""Webhooks against a real receiver: signature, repetition, giving up."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from apps.kernel.actor import SYSTEM
from apps.kernel.clock import now
from apps.kernel.models import OutboxEntry
from apps.registry.domain.words import DeliveryState, WebhookStatus
from apps.registry.models import WebhookDelivery
from apps.registry.services import catalogue, webhooks
from apps.registry.services.webhooks import Change, webhook_create, webhook_send, webhook_update

pytestmark = pytest.mark.django_db
CREATED = {"entity": "registered_model", "action": "created"}


class Receiver:
    """Answers with ``status``; ``got`` holds headers and bodies."""

    def __init__(self) -> None:
        self.status, self.got = 200, []  # type: ignore[var-annotated]
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append(({name.lower(): text for name, text in self.headers.items()}, body))
                self.send_response(receiver.status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_: Any) -> None:
                """Nothing on stderr."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"


@pytest.fixture
def receiver(settings: Any) -> Iterator[Receiver]:
    made = Receiver()
    settings.PILOTHOUSE_OUTBOUND_ALLOW = [f"127.0.0.1:{made.server.server_port}"]
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join(10)


def told(receiver: Receiver, **change: Any) -> WebhookDelivery:
    """A webhook, and the delivery of one event to it."""
    webhook_create(actor=SYSTEM, change=Change(name="hook", url=receiver.url, events=[CREATED], secret="s", **change))
    catalogue.model_register(actor=SYSTEM, name="m", tags={"k": "v"})
    return WebhookDelivery.objects.get()


def test_an_event_is_told_in_mlflows_format_and_signed(receiver: Receiver) -> None:
    delivery = told(receiver)
    assert OutboxEntry.objects.get(name="registry.send_webhook").payload == {"delivery_id": delivery.pk}
    assert webhook_send(delivery.pk) == DeliveryState.DELIVERED
    headers, body = receiver.got[0]
    said = json.loads(body)
    assert {key: said[key] for key in ("entity", "action", "data")} == {
        **CREATED,
        "data": {"name": "m", "tags": {"k": "v"}, "description": ""},
    }
    stamped = f"{headers['x-mlflow-delivery-id']}.{headers['x-mlflow-timestamp']}."
    text = stamped.encode() + body
    signed = base64.b64encode(hmac.new(b"s", text, hashlib.sha256).digest()).decode()
    assert headers["x-mlflow-signature"] == f"v1,{signed}"
    assert webhook_send(delivery.pk) is None
    assert len(receiver.got) == 1


def test_a_refused_event_is_repeated_with_the_same_id_and_given_up_in_the_end(receiver: Receiver) -> None:
    delivery = told(receiver)
    receiver.status = 500
    for attempt in range(1, webhooks.MAX_ATTEMPTS + 1):
        state = webhook_send(delivery.pk)
        delivery.refresh_from_db()
        assert (delivery.attempts, delivery.response_status) == (attempt, 500)
        assert webhook_send(delivery.pk) is None  # not due yet
        WebhookDelivery.objects.filter(pk=delivery.pk).update(due_at=now() - timedelta(seconds=1))
    assert state == DeliveryState.GIVEN_UP
    assert {headers["x-mlflow-delivery-id"] for headers, _ in receiver.got} == {delivery.pk}


def test_a_disabled_webhook_and_another_event_are_not_told(receiver: Receiver) -> None:
    first = told(receiver)
    webhook_update(actor=SYSTEM, webhook_id=first.webhook_id, change=Change(status=WebhookStatus.DISABLED))
    catalogue.model_register(actor=SYSTEM, name="n")
    webhook_update(actor=SYSTEM, webhook_id=first.webhook_id, change=Change(status=WebhookStatus.ACTIVE))
    catalogue.model_describe(actor=SYSTEM, name="n", description="words")
    assert WebhookDelivery.objects.count() == 1


def test_nobody_there_is_a_reason_to_come_back(receiver: Receiver) -> None:
    delivery = told(receiver)
    receiver.server.shutdown()
    receiver.server.server_close()
    assert webhook_send(delivery.pk) == DeliveryState.WAITING
    delivery.refresh_from_db()
    assert "cannot be reached" in delivery.last_error


def test_an_inner_address_is_refused_for_good(receiver: Receiver, settings: Any) -> None:
    delivery = told(receiver)
    settings.PILOTHOUSE_OUTBOUND_ALLOW = []
    assert webhook_send(delivery.pk) == DeliveryState.GIVEN_UP
    assert receiver.got == []
