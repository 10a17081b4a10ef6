"""Alerts by API: read, taken on, silenced, closed."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api_access import idempotent
from apps.alerts.api.incident_shapes import (
    OPEN,
    AlertAcknowledgeBody,
    AlertDetailSchema,
    AlertResolveBody,
    AlertSchema,
    AlertSilenceBody,
    AlertsQuery,
    NoticeSchema,
    NoticesQuery,
    alert_show,
    change_show,
    notice_show,
)
from apps.alerts.domain.incidents import IncidentState
from apps.alerts.models import Incident, Notice
from apps.alerts.selectors import READ, incident_changes, incident_get, incident_list
from apps.alerts.services.commands import incident_acknowledge, incident_resolve, incident_silence
from apps.kernel.clock import now
from apps.kernel.rest import ApiView, actor_of, body_of, operation, page_of, page_schema, query_of, with_etag

TAG = "alerts"
ALERT = {"alert_id": "The alert's id, al_…"}
_FILTERS = {
    "severity": "severity", "environment": "environment", "team": "team__slug", "source": "source",
    "subject": "subject_name",
}  # fmt: skip


class AlertsView(ApiView):
    action_required = READ

    @operation(
        "alert_list", "What is or was wrong, newest first", tag=TAG, query=AlertsQuery,
        answers={200: page_schema("Alert", AlertSchema)},
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        asked = query_of(request, AlertsQuery)
        found = incident_list(actor_of(request))
        state = asked.pop("state", "")
        if state:
            found = found.exclude(state=IncidentState.RESOLVED) if state == OPEN else found.filter(state=state)
        for name, lookup in _FILTERS.items():
            value = asked.pop(name, None)
            found = found.filter(**{lookup: value}) if value is not None else found
        return Response(page_of(found, key="-id", show=alert_show, **asked))


class AlertView(ApiView):
    action_required = READ

    @operation(
        "alert_get", "One alert with its history", tag=TAG, path=ALERT, has_etag=True, answers={200: AlertDetailSchema}
    )
    def get(self, request: Request, alert_id: str) -> Response:
        row = incident_get(actor_of(request), alert_id)
        return with_etag(
            {**alert_show(row), "changes": [change_show(one) for one in incident_changes(row)]}, row.revision
        )


class AlertNoticesView(ApiView):
    action_required = READ

    @operation(
        "alert_notice_list", "Who was told, newest first", tag=TAG, path=ALERT, query=NoticesQuery,
        answers={200: page_schema("AlertNotice", NoticeSchema)},
    )  # fmt: skip
    def get(self, request: Request, alert_id: str) -> Response:
        asked = query_of(request, NoticesQuery)
        state = asked.pop("state", None)
        found = Notice.objects.filter(incident=incident_get(actor_of(request), alert_id))
        found = found.filter(state=state) if state else found
        return Response(page_of(found, key="-id", show=notice_show, **asked))


class AcknowledgeView(ApiView):
    action_required: ClassVar = {"POST": "alert.acknowledge"}

    @operation(
        "alert_acknowledge", "Say that you look after it: no more reminders", tag=TAG, path=ALERT,
        body=AlertAcknowledgeBody, is_idempotent=True, answers={200: AlertSchema},
    )  # fmt: skip
    @idempotent
    def post(self, request: Request, alert_id: str) -> Response:
        asked = body_of(request, AlertAcknowledgeBody)
        return _shown(incident_acknowledge(actor=actor_of(request), incident_id=alert_id, **asked))


class SilenceView(ApiView):
    action_required: ClassVar = {"POST": "alert.silence"}

    @operation(
        "alert_silence", "No messages for a while, unless it gets worse or ends", tag=TAG, path=ALERT,
        body=AlertSilenceBody, is_idempotent=True, answers={200: AlertSchema},
    )  # fmt: skip
    @idempotent
    def post(self, request: Request, alert_id: str) -> Response:
        asked = body_of(request, AlertSilenceBody)
        until = now() + timedelta(seconds=asked.pop("seconds"))
        return _shown(incident_silence(actor=actor_of(request), incident_id=alert_id, until=until, **asked))


class ResolveView(ApiView):
    action_required: ClassVar = {"POST": "alert.resolve"}

    @operation(
        "alert_resolve", "Say that it is over", tag=TAG, path=ALERT, body=AlertResolveBody, is_idempotent=True,
        description="What fires on opens again after 15 minutes, or at once when it is worse.",
        answers={200: AlertSchema},
    )  # fmt: skip
    @idempotent
    def post(self, request: Request, alert_id: str) -> Response:
        asked = body_of(request, AlertResolveBody)
        return _shown(incident_resolve(actor=actor_of(request), incident_id=alert_id, **asked))


def _shown(row: Incident) -> Response:
    return with_etag(alert_show(row), row.revision)
