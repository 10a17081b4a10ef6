"""Webhooks of a team: told of what happens, signed as Standard Webhooks has it."""

from __future__ import annotations

from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api_access import idempotent
from apps.alerts.api.shapes import (
    DeliveriesQuery,
    NewWebhookSchema,
    WebhookBody,
    WebhookDeliverySchema,
    WebhookPatch,
    WebhookSchema,
    delivery_show,
    webhook_show,
)
from apps.alerts.models import Subscription
from apps.alerts.selectors import ACTION, delivery_list, subscription_get, subscription_list
from apps.alerts.services.send import delivery_redeliver, delivery_test
from apps.alerts.services.subscriptions import (
    subscription_create,
    subscription_delete,
    subscription_rotate,
    subscription_update,
)
from apps.kernel.rest import (
    ApiView,
    PageQuery,
    actor_of,
    body_of,
    if_match,
    operation,
    page_of,
    page_schema,
    query_of,
    with_etag,
)

TAG = "webhooks"
WEBHOOK = {"webhook_id": "The webhook's id, ws_…"}
DELIVERY = {**WEBHOOK, "delivery_id": "The message's id, msg_…"}


class WebhooksView(ApiView):
    action_required = ACTION

    @operation(
        "webhook_list", "Webhooks of the teams that you manage", tag=TAG, query=PageQuery,
        answers={200: page_schema("Webhook", WebhookSchema)},
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        found = subscription_list(actor_of(request))
        return Response(page_of(found, key="id", show=webhook_show, **query_of(request, PageQuery)))

    # Deliberately not idempotent: a stored answer would keep the secret in the database.
    @operation(
        "webhook_create", "Tell an address of what happens", tag=TAG, body=WebhookBody,
        description="Messages are signed as Standard Webhooks has it; the secret is in this answer and nowhere else.",
        answers={201: NewWebhookSchema}, errors=(404, 409),
    )  # fmt: skip
    def post(self, request: Request) -> Response:
        row, secret = subscription_create(actor=actor_of(request), **body_of(request, WebhookBody))
        return _shown_once(row, secret)


class WebhookView(ApiView):
    action_required = ACTION

    @operation("webhook_get", "One webhook", tag=TAG, path=WEBHOOK, has_etag=True, answers={200: WebhookSchema})
    def get(self, request: Request, webhook_id: str) -> Response:
        return _shown(subscription_get(actor_of(request), webhook_id))

    @operation(
        "webhook_update", "Change what it is told, where, or whether", tag=TAG, path=WEBHOOK, body=WebhookPatch,
        description="Switching a disabled one on again (state active) forgets its failures and sends what waits.",
        needs_if_match=True, answers={200: WebhookSchema}, errors=(409,),
    )  # fmt: skip
    def patch(self, request: Request, webhook_id: str) -> Response:
        actor, asked = actor_of(request), body_of(request, WebhookPatch)
        if_match(request, subscription_get(actor, webhook_id).revision)
        return _shown(subscription_update(actor=actor, subscription_id=webhook_id, **asked))

    @operation(
        "webhook_delete", "Remove it and its messages", tag=TAG, path=WEBHOOK, needs_if_match=True, answers={204: None}
    )
    def delete(self, request: Request, webhook_id: str) -> Response:
        actor = actor_of(request)
        if_match(request, subscription_get(actor, webhook_id).revision)
        subscription_delete(actor=actor, subscription_id=webhook_id)
        return Response(status=204)


class RotateView(ApiView):
    action_required = ACTION

    # Deliberately not idempotent: a stored answer would keep the secret in the database.
    @operation(
        "webhook_rotate", "A new secret; both sign for 24 hours", tag=TAG, path=WEBHOOK,
        answers={201: NewWebhookSchema},
    )  # fmt: skip
    def post(self, request: Request, webhook_id: str) -> Response:
        return _shown_once(*subscription_rotate(actor=actor_of(request), subscription_id=webhook_id))


class TestView(ApiView):
    action_required = ACTION

    @operation(
        "webhook_test", "Send a message that says it is a test", tag=TAG, path=WEBHOOK, is_idempotent=True,
        description="It takes the way of every other message; its type is `webhook.test`.",
        answers={202: WebhookDeliverySchema}, errors=(409,),
    )  # fmt: skip
    @idempotent
    def post(self, request: Request, webhook_id: str) -> Response:
        return Response(delivery_show(delivery_test(actor=actor_of(request), subscription_id=webhook_id)), status=202)


class DeliveriesView(ApiView):
    action_required = ACTION

    @operation(
        "webhook_delivery_list", "Its messages, newest first", tag=TAG, path=WEBHOOK, query=DeliveriesQuery,
        answers={200: page_schema("WebhookDelivery", WebhookDeliverySchema)},
    )  # fmt: skip
    def get(self, request: Request, webhook_id: str) -> Response:
        asked = query_of(request, DeliveriesQuery)
        state = asked.pop("state", None)
        found = delivery_list(subscription_get(actor_of(request), webhook_id))
        found = found.filter(state=state) if state else found
        return Response(page_of(found, key="-id", show=delivery_show, **asked))


class RedeliverView(ApiView):
    action_required = ACTION

    @operation(
        "webhook_redeliver", "Send a message again, under the same webhook-id", tag=TAG, path=DELIVERY,
        is_idempotent=True, answers={202: WebhookDeliverySchema},
    )  # fmt: skip
    @idempotent
    def post(self, request: Request, webhook_id: str, delivery_id: str) -> Response:
        actor = actor_of(request)
        row = delivery_redeliver(actor=actor, subscription=subscription_get(actor, webhook_id), delivery_id=delivery_id)
        return Response(delivery_show(row), status=202)


def _shown(row: Subscription) -> Response:
    return with_etag(webhook_show(row), row.revision)


def _shown_once(row: Subscription, secret: str) -> Response:
    headers = {"Location": f"/api/v1/webhooks/{row.pk}", "Cache-Control": "no-store"}
    return Response({**webhook_show(row), "secret": secret}, status=201, headers=headers)
