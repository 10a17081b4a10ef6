"""What the API says about channels, routes and receivers. Addresses and tokens go in or come out once, never again."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apps.alerts.domain.addresses import FORMS, MAX_LENGTH
from apps.alerts.domain.alertmanager import LABELS, LEAST_REPEAT, MOST_REPEAT, PAGES, REPEAT_SECONDS
from apps.alerts.domain.incidents import Severity
from apps.alerts.domain.states import ChannelState
from apps.alerts.models import Channel, Receiver, Route
from apps.kernel.rest import StrictBoolean, StrictChar, StrictInteger, StrictSerializer, iso

PLACES = ["development", "staging", "production"]
SWITCH = [state.value for state in ChannelState]
KINDS = [kind.value for kind in FORMS]
EXAMPLES = " ".join(f"{form.word}: `{form.example}`." for form in FORMS.values())
TEAM: dict[str, Any] = {"max_length": 40, "required": False, "default": "", "allow_blank": True}


class ChannelBody(StrictSerializer):
    name = StrictChar(max_length=80)
    kind = serializers.ChoiceField(choices=KINDS)
    address = StrictChar(max_length=MAX_LENGTH, help_text=EXAMPLES)
    is_default = StrictBoolean(required=False, default=False, help_text="Gets what no route names; one a team.")
    team = StrictChar(**TEAM, help_text="Id or slug; needed where you have several.")


class ChannelPatch(StrictSerializer):
    name = StrictChar(max_length=80, required=False)
    address = StrictChar(max_length=MAX_LENGTH, required=False)
    is_default = StrictBoolean(required=False)
    state = serializers.ChoiceField(choices=SWITCH, required=False)


class ChannelSchema(serializers.Serializer[Any]):
    id = serializers.CharField()
    object = serializers.CharField()
    name = serializers.CharField()
    team = serializers.CharField()
    kind = serializers.CharField(help_text=f"One of {', '.join(KINDS)}.")
    shown = serializers.CharField(help_text="What may be read of its address.")
    is_default = serializers.BooleanField()
    state = serializers.CharField()
    failing_since = serializers.DateTimeField(allow_null=True)
    revision = serializers.IntegerField()
    created_at = serializers.DateTimeField()


class NewChannelSchema(ChannelSchema):
    secret = serializers.CharField(allow_blank=True, help_text="Of a webhook: whsec_…, shown this once. Else empty.")


class RouteBody(StrictSerializer):
    channels = serializers.ListField(child=StrictChar(max_length=40), min_length=1, max_length=20)
    severity = serializers.ChoiceField(choices=[one.value for one in Severity], required=False, default="")
    environment = serializers.ChoiceField(choices=PLACES, required=False, default="")
    source = StrictChar(max_length=40, required=False, default="", allow_blank=True)  # type: ignore[assignment]
    team = StrictChar(**TEAM)


class RouteSchema(serializers.Serializer[Any]):
    id = serializers.CharField()
    object = serializers.CharField()
    team = serializers.CharField()
    severity = serializers.CharField(allow_blank=True)
    environment = serializers.CharField(allow_blank=True)
    source = serializers.CharField(allow_blank=True)  # type: ignore[assignment]
    channels = serializers.ListField(child=serializers.CharField())


class ReceiverBody(StrictSerializer):
    name = StrictChar(max_length=80)
    team = StrictChar(**TEAM)
    is_house_wide = StrictBoolean(required=False, default=False, help_text="The label `team` says whose each alert is.")
    labels = serializers.DictField(
        child=StrictChar(max_length=100), required=False, default=dict,
        help_text=f"Which label holds {', '.join(LABELS)}; by default the one of that name.",
    )  # fmt: skip
    page_values = serializers.ListField(
        child=StrictChar(max_length=40), required=False, default=list(PAGES), max_length=20,
        help_text="Values of the severity label that page; every other is a ticket.",
    )  # fmt: skip
    repeat_seconds = StrictInteger(
        min_value=LEAST_REPEAT, max_value=MOST_REPEAT, default=REPEAT_SECONDS,
        help_text="repeat_interval of its Alertmanager: what it does not say again for a quarter longer is over.",
    )  # fmt: skip


class ReceiverPatch(StrictSerializer):
    repeat_seconds = StrictInteger(min_value=LEAST_REPEAT, max_value=MOST_REPEAT)


class ReceiverSchema(serializers.Serializer[Any]):
    id = serializers.CharField()
    object = serializers.CharField()
    name = serializers.CharField()
    team = serializers.CharField(allow_null=True)
    labels = serializers.DictField()
    page_values = serializers.ListField(child=serializers.CharField())
    repeat_seconds = serializers.IntegerField()
    url = serializers.CharField(help_text="For webhook_configs of Alertmanager.")
    accepted = serializers.IntegerField()
    rejected = serializers.IntegerField()
    last_rejection = serializers.CharField(allow_blank=True)
    seen_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()


class NewReceiverSchema(ReceiverSchema):
    token = serializers.CharField(help_text="plr_…; shown this once. The bearer token of Alertmanager's http_config.")


class AlertmanagerBody(serializers.Serializer[Any]):
    version = serializers.CharField(help_text='"4".')
    alerts = serializers.ListField(child=serializers.DictField())


class ReceivedSchema(serializers.Serializer[Any]):
    accepted = serializers.IntegerField()
    rejected = serializers.ListField(child=serializers.DictField(), help_text="index, code and detail of each.")


def channel_show(row: Channel) -> dict[str, Any]:
    return {
        "id": row.pk,
        "object": "alert_channel",
        "name": row.name,
        "team": row.team.slug,
        "kind": str(row.kind),
        "shown": row.shown,
        "is_default": row.is_default,
        "state": str(row.state),
        "failing_since": iso(row.failing_since),
        "revision": row.revision,
        "created_at": iso(row.created_at),
    }


def route_show(row: Route) -> dict[str, Any]:
    return {
        "id": row.pk,
        "object": "alert_route",
        "team": row.team.slug,
        "severity": row.severity,
        "environment": row.environment,
        "source": row.source,
        "channels": [channel.pk for channel in row.channels.all()],
    }


def receiver_show(row: Receiver) -> dict[str, Any]:
    return {
        "id": row.pk,
        "object": "alert_receiver",
        "name": row.name,
        "team": row.team.slug if row.team else None,
        "labels": row.labels,
        "page_values": row.page_values,
        "repeat_seconds": row.repeat_seconds,
        "url": f"/api/v1/alert-receivers/{row.pk}/alertmanager",
        "accepted": row.accepted,
        "rejected": row.rejected,
        "last_rejection": row.last_rejection,
        "seen_at": iso(row.seen_at),
        "created_at": iso(row.created_at),
    }
