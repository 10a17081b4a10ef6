"""Channels, routes and receivers by API: where alerts go, and where they come from."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api_access import idempotent
from apps.accounts.domain.doors import PUBLIC
from apps.alerts.api.channel_shapes import (
    AlertmanagerBody,
    ChannelBody,
    ChannelPatch,
    ChannelSchema,
    NewChannelSchema,
    NewReceiverSchema,
    ReceivedSchema,
    ReceiverBody,
    ReceiverPatch,
    ReceiverSchema,
    RouteBody,
    RouteSchema,
    channel_show,
    receiver_show,
    route_show,
)
from apps.alerts.api.incident_shapes import NoticeSchema, NoticesQuery, notice_show
from apps.alerts.models import Channel, Receiver
from apps.alerts.selectors import ROUTE, channel_get, channel_list, notice_list, receiver_list, route_list
from apps.alerts.services.channels import channel_create, channel_delete, channel_update, route_create, route_delete
from apps.alerts.services.receivers import (
    alerts_receive,
    receiver_create,
    receiver_delete,
    receiver_of_token,
    receiver_rotate,
    receiver_update,
)
from apps.alerts.services.sending import channel_test, notice_resend
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

TAG = "alerts"
CHANNEL = {"channel_id": "The channel's id, ch_…"}
NOTICE = {**CHANNEL, "notice_id": "The message's id, nt_…"}
RECEIVER = {"receiver_id": "The receiver's id, ar_…"}


class BadToken(APIException):
    status_code = 401
    default_code = "token_refused"
    default_detail = "No receiver has this token: send Authorization: Bearer plr_…"


class ChannelsView(ApiView):
    action_required = ROUTE

    @operation(
        "alert_channel_list", "Channels of the teams that you manage", tag=TAG, query=PageQuery,
        answers={200: page_schema("AlertChannel", ChannelSchema)},
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        found = channel_list(actor_of(request))
        return Response(page_of(found, key="id", show=channel_show, **query_of(request, PageQuery)))

    # Deliberately not idempotent: a stored answer would keep the secret in the database.
    @operation(
        "alert_channel_create", "Tell people of a team's alerts", tag=TAG, body=ChannelBody,
        description="The address is stored sealed and never shown. The first channel of a team is its default.",
        answers={201: NewChannelSchema}, errors=(404, 409),
    )  # fmt: skip
    def post(self, request: Request) -> Response:
        row, secret = channel_create(actor=actor_of(request), **body_of(request, ChannelBody))
        headers = {"Location": f"/api/v1/alert-channels/{row.pk}", "Cache-Control": "no-store"}
        return Response({**channel_show(row), "secret": secret}, status=201, headers=headers)


class ChannelView(ApiView):
    action_required = ROUTE

    @operation("alert_channel_get", "One channel", tag=TAG, path=CHANNEL, has_etag=True, answers={200: ChannelSchema})
    def get(self, request: Request, channel_id: str) -> Response:
        return _shown(channel_get(actor_of(request), channel_id))

    @operation(
        "alert_channel_update", "Change its name, address or state, or make it the default", tag=TAG, path=CHANNEL,
        body=ChannelPatch, needs_if_match=True, answers={200: ChannelSchema}, errors=(409,),
    )  # fmt: skip
    def patch(self, request: Request, channel_id: str) -> Response:
        actor, asked = actor_of(request), body_of(request, ChannelPatch)
        if_match(request, channel_get(actor, channel_id).revision)
        return _shown(channel_update(actor=actor, channel_id=channel_id, **asked))

    @operation(
        "alert_channel_delete", "Remove it and its messages", tag=TAG, path=CHANNEL, needs_if_match=True,
        answers={204: None}, errors=(409,),
    )  # fmt: skip
    def delete(self, request: Request, channel_id: str) -> Response:
        actor = actor_of(request)
        if_match(request, channel_get(actor, channel_id).revision)
        channel_delete(actor=actor, channel_id=channel_id)
        return Response(status=204)


class ChannelTestView(ApiView):
    action_required = ROUTE

    @operation(
        "alert_channel_test", "Send a message that says it is a test", tag=TAG, path=CHANNEL, is_idempotent=True,
        answers={202: NoticeSchema},
    )  # fmt: skip
    @idempotent
    def post(self, request: Request, channel_id: str) -> Response:
        return Response(notice_show(channel_test(actor=actor_of(request), channel_id=channel_id)), status=202)


class ChannelNoticesView(ApiView):
    action_required = ROUTE

    @operation(
        "alert_channel_notice_list", "Its messages, newest first", tag=TAG, path=CHANNEL, query=NoticesQuery,
        answers={200: page_schema("AlertChannelNotice", NoticeSchema)},
    )  # fmt: skip
    def get(self, request: Request, channel_id: str) -> Response:
        asked = query_of(request, NoticesQuery)
        state = asked.pop("state", None)
        found = notice_list(channel_get(actor_of(request), channel_id))
        found = found.filter(state=state) if state else found
        return Response(page_of(found, key="-id", show=notice_show, **asked))


class ResendView(ApiView):
    action_required = ROUTE

    @operation(
        "alert_notice_resend", "Send a message again", tag=TAG, path=NOTICE, is_idempotent=True,
        answers={202: NoticeSchema},
    )  # fmt: skip
    @idempotent
    def post(self, request: Request, channel_id: str, notice_id: str) -> Response:
        actor = actor_of(request)
        row = notice_resend(actor=actor, channel=channel_get(actor, channel_id), notice=notice_id)
        return Response(notice_show(row), status=202)


class RoutesView(ApiView):
    action_required = ROUTE

    @operation(
        "alert_route_list", "Which alerts go where", tag=TAG, query=PageQuery,
        answers={200: page_schema("AlertRoute", RouteSchema)},
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        found = route_list(actor_of(request))
        return Response(page_of(found, key="id", show=route_show, **query_of(request, PageQuery)))

    @operation(
        "alert_route_create", "Send some alerts to some channels", tag=TAG, body=RouteBody, is_idempotent=True,
        description="Every route that fits counts. What fits none goes to the team's default channel.",
        answers={201: RouteSchema}, errors=(404,),
    )  # fmt: skip
    @idempotent
    def post(self, request: Request) -> Response:
        row = route_create(actor=actor_of(request), **body_of(request, RouteBody))
        return Response(route_show(row), status=201)


class RouteView(ApiView):
    action_required = ROUTE

    @operation(
        "alert_route_delete", "Remove a route", tag=TAG, path={"route_id": "The route's id, rt_…"}, answers={204: None}
    )
    def delete(self, request: Request, route_id: str) -> Response:
        route_delete(actor=actor_of(request), route_id=route_id)
        return Response(status=204)


class ReceiversView(ApiView):
    action_required = ROUTE

    @operation(
        "alert_receiver_list", "Alertmanagers that may report", tag=TAG, query=PageQuery,
        answers={200: page_schema("AlertReceiver", ReceiverSchema)},
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        found = receiver_list(actor_of(request))
        return Response(page_of(found, key="id", show=receiver_show, **query_of(request, PageQuery)))

    # Deliberately not idempotent: a stored answer would keep the token in the database.
    @operation(
        "alert_receiver_create", "Let an Alertmanager report alerts", tag=TAG, body=ReceiverBody,
        answers={201: NewReceiverSchema}, errors=(404, 409),
    )  # fmt: skip
    def post(self, request: Request) -> Response:
        return _shown_once(*receiver_create(actor=actor_of(request), **body_of(request, ReceiverBody)))


class ReceiverView(ApiView):
    action_required = ROUTE

    @operation(
        "alert_receiver_update", "How often it repeats what still fires", tag=TAG, path=RECEIVER, body=ReceiverPatch,
        answers={200: ReceiverSchema},
    )  # fmt: skip
    def patch(self, request: Request, receiver_id: str) -> Response:
        asked = body_of(request, ReceiverPatch)
        return Response(receiver_show(receiver_update(actor=actor_of(request), receiver_id=receiver_id, **asked)))

    @operation("alert_receiver_delete", "Stop listening to it", tag=TAG, path=RECEIVER, answers={204: None})
    def delete(self, request: Request, receiver_id: str) -> Response:
        receiver_delete(actor=actor_of(request), receiver_id=receiver_id)
        return Response(status=204)


class ReceiverRotateView(ApiView):
    action_required = ROUTE

    # Deliberately not idempotent: a stored answer would keep the token in the database.
    @operation(
        "alert_receiver_rotate", "A new token; the old one ends at once", tag=TAG, path=RECEIVER,
        answers={201: NewReceiverSchema},
    )  # fmt: skip
    def post(self, request: Request, receiver_id: str) -> Response:
        return _shown_once(*receiver_rotate(actor=actor_of(request), receiver_id=receiver_id))


class AlertmanagerView(ApiView):
    """The token of the receiver is the credential; keys of people open nothing here."""

    action_required = PUBLIC
    authentication_classes = ()

    @extend_schema(auth=[])  # type: ignore[untyped-decorator]
    @operation(
        "alert_receive", "Alerts of a Prometheus Alertmanager (webhook, version 4)", tag=TAG, path=RECEIVER,
        body=AlertmanagerBody, answers={200: ReceivedSchema},
        description="Bearer token of the receiver. What cannot be read is refused by itself, the rest is taken.",
    )  # fmt: skip
    def post(self, request: Request, receiver_id: str) -> Response:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        found = receiver_of_token(receiver_id, token.strip()) if scheme.lower() == "bearer" else None
        if found is None:
            raise BadToken
        return Response(alerts_receive(receiver=found, payload=request.data))


def _shown(row: Channel) -> Response:
    return with_etag(channel_show(row), row.revision)


def _shown_once(row: Receiver, token: str) -> Response:
    body: dict[str, Any] = {**receiver_show(row), "token": token}
    return Response(body, status=201, headers={"Cache-Control": "no-store"})
