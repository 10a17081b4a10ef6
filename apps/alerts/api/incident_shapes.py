"""What the API says about alerts: what is wrong, what was done about it, who was told."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apps.alerts.domain.incidents import ChangeKind, IncidentState, Severity
from apps.alerts.domain.states import DeliveryState
from apps.alerts.models import Incident, IncidentChange, Notice
from apps.alerts.services.commands import LONGEST_SILENCE, REASON_LENGTH
from apps.kernel.rest import PageQuery, StrictChar, StrictInteger, StrictSerializer, iso

OPEN = "open"
PLACES = ["development", "staging", "production"]
SILENCE_SECONDS = int(LONGEST_SILENCE.total_seconds())


class AlertsQuery(PageQuery):
    state = serializers.ChoiceField(
        choices=[OPEN, *(state.value for state in IncidentState)], required=False, help_text="open: not resolved."
    )
    severity = serializers.ChoiceField(choices=[one.value for one in Severity], required=False)
    environment = serializers.ChoiceField(choices=PLACES, required=False)
    team = StrictChar(max_length=40, required=False, help_text="A team's slug.")
    source = StrictChar(max_length=40, required=False, help_text="slo, rollouts, telemetry, alertmanager …")  # type: ignore[assignment]
    subject = StrictChar(max_length=200, required=False, help_text="The name of an endpoint, for example.")


class NoticesQuery(PageQuery):
    state = serializers.ChoiceField(choices=[state.value for state in DeliveryState], required=False)


class AlertCommand(StrictSerializer):
    expected_revision = StrictInteger(min_value=1, max_value=2**31, help_text="The revision that you saw; else 409.")


class AlertAcknowledgeBody(AlertCommand):
    reason = StrictChar(max_length=REASON_LENGTH, required=False, default="", allow_blank=True)


class AlertResolveBody(AlertCommand):
    reason = StrictChar(max_length=REASON_LENGTH, help_text="What was wrong, or why it was not.")


class AlertSilenceBody(AlertCommand):
    seconds = StrictInteger(
        min_value=0, max_value=SILENCE_SECONDS, help_text="For how long from now; 0 lifts a silence."
    )
    reason = StrictChar(max_length=REASON_LENGTH, required=False, default="", allow_blank=True)


class AlertStateSchema(serializers.Serializer[Any]):
    name = serializers.CharField()
    severity = serializers.CharField()
    is_firing = serializers.BooleanField()
    sentence = serializers.CharField()


class AlertSchema(serializers.Serializer[Any]):
    id = serializers.CharField()
    object = serializers.CharField()
    key = serializers.CharField(help_text="What names the fault; at most one alert per key is open.")
    source = serializers.CharField()  # type: ignore[assignment]
    team = serializers.CharField(allow_null=True)
    environment = serializers.CharField(allow_blank=True)
    subject = serializers.DictField(help_text="kind, id and name of what is broken.")
    state = serializers.CharField(help_text=f"One of {', '.join(IncidentState)}.")
    severity = serializers.CharField(help_text=f"One of {', '.join(Severity)}.")
    title = serializers.CharField()
    summary = serializers.CharField(allow_blank=True)
    facts = serializers.DictField(help_text="Numbers; seconds_to_exhaustion is when the error budget is gone.")
    states = AlertStateSchema(many=True)
    opened_at = serializers.DateTimeField()
    firing_since = serializers.DateTimeField(help_text="The last time that it began.")
    observed_at = serializers.DateTimeField(help_text="How old the numbers are.")
    reopened = serializers.IntegerField()
    acknowledged_by = serializers.CharField(allow_blank=True)
    acknowledged_at = serializers.DateTimeField(allow_null=True)
    silenced_until = serializers.DateTimeField(allow_null=True)
    silenced_by = serializers.CharField(allow_blank=True)
    silence_reason = serializers.CharField(allow_blank=True)
    resolved_at = serializers.DateTimeField(allow_null=True)
    resolved_by = serializers.CharField(allow_blank=True, help_text="Empty: by itself.")
    runbook_url = serializers.CharField(allow_blank=True)
    links = serializers.DictField()
    revision = serializers.IntegerField()


class AlertChangeSchema(serializers.Serializer[Any]):
    at = serializers.DateTimeField()
    kind = serializers.CharField(help_text=f"One of {', '.join(ChangeKind)}.")
    by = serializers.CharField(allow_blank=True, help_text="Empty: Pilothouse itself.")
    severity = serializers.CharField()
    sentence = serializers.CharField(allow_blank=True)
    told = serializers.ListField(child=serializers.CharField(), help_text="The channels that were told.")
    remark = serializers.CharField(allow_blank=True, help_text="Why not by a route, or why nobody.")


class AlertDetailSchema(AlertSchema):
    changes = AlertChangeSchema(many=True)


class NoticeSchema(serializers.Serializer[Any]):
    id = serializers.CharField()
    object = serializers.CharField()
    alert = serializers.CharField(allow_null=True)
    channel = serializers.CharField()
    kind = serializers.CharField()
    subject = serializers.CharField()
    body = serializers.CharField()
    state = serializers.CharField(help_text=f"One of {', '.join(DeliveryState)}.")
    attempts = serializers.IntegerField()
    last_error = serializers.CharField(allow_blank=True)
    created_at = serializers.DateTimeField()
    due_at = serializers.DateTimeField(allow_null=True, help_text="The next attempt; null when there is none.")
    settled_at = serializers.DateTimeField(allow_null=True)


def alert_show(row: Incident) -> dict[str, Any]:
    moments = ("opened_at", "firing_since", "observed_at", "acknowledged_at", "silenced_until", "resolved_at")
    texts = (
        "key", "source", "environment", "title", "summary", "facts", "states", "reopened", "acknowledged_by",
        "silenced_by", "silence_reason", "resolved_by", "runbook_url", "revision",
    )  # fmt: skip
    return {
        "id": row.pk,
        "object": "alert",
        **{name: getattr(row, name) for name in texts},
        "state": str(row.state),
        "severity": str(row.severity),
        "team": row.team.slug if row.team else None,
        "subject": {"kind": row.subject_type, "id": row.subject_id, "name": row.subject_name},
        **{name: iso(getattr(row, name)) for name in moments},
        "links": {"page": f"/alerts/{row.pk}/", "look": row.link},
    }


def change_show(row: IncidentChange) -> dict[str, Any]:
    return {
        "at": iso(row.at),
        "kind": str(row.kind),
        "by": row.by,
        "severity": str(row.severity),
        "sentence": row.sentence,
        "told": row.detail.get("told", []),
        "remark": row.detail.get("remark", ""),
    }


def notice_show(row: Notice) -> dict[str, Any]:
    return {
        "id": row.pk,
        "object": "alert_notice",
        "alert": row.incident_id,
        "channel": row.channel_id,
        "kind": str(row.kind),
        "subject": row.subject,
        "body": row.body,
        "state": str(row.state),
        "attempts": row.attempts,
        "last_error": row.last_error,
        "created_at": iso(row.created_at),
        "due_at": iso(row.due_at) if row.state == DeliveryState.WAITING else None,
        "settled_at": iso(row.settled_at),
    }
