"""Incidents, who outside is told of what, and every message."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now

from apps.alerts.domain.alertmanager import REPEAT_SECONDS
from apps.alerts.domain.incidents import KEY_LENGTH, TITLE_LENGTH, ChangeKind, IncidentState, Severity
from apps.alerts.domain.states import ChannelKind, ChannelState, DeliveryState, SubscriptionState
from apps.kernel.ids import new_id
from apps.kernel.orm import one_of
from apps.kernel.vault import sealed_field


def subscription_id() -> str:
    return new_id("ws")


def message_id() -> str:
    return new_id("msg")


def channel_id() -> str:
    return new_id("ch")


def route_id() -> str:
    return new_id("rt")


def notice_id() -> str:
    return new_id("nt")


def receiver_id() -> str:
    return new_id("ar")


def incident_id() -> str:
    return new_id("al")


class Incident(models.Model):
    """One fault, from its first sign to its end. At most one per ``key`` is open.

    ``states`` are the conditions that make it up (burn-rate tiers), as domain/incidents.py:State.as_json gives them;
    ``facts`` its numbers. ``opened_at`` is the first time, ``firing_since`` the last. ``resolved_by`` "" is by itself.
    ``has_cleared``: its source said so too. ``revision`` counts changes, not refreshed numbers. ``heard_at``: when its
    source last repeated it, for sources that have to (Alertmanager); null where it was never said again.
    """

    id = models.CharField(primary_key=True, max_length=40, default=incident_id)
    key = models.CharField(max_length=KEY_LENGTH)
    source = models.CharField(max_length=40)
    team = models.ForeignKey("accounts.Team", on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    environment = models.CharField(max_length=20, blank=True, default="")
    subject_type = models.CharField(max_length=40)
    subject_id = models.CharField(max_length=200, blank=True, default="")
    subject_name = models.CharField(max_length=200, blank=True, default="")
    state = models.CharField(max_length=12, default=IncidentState.FIRING)
    severity = models.CharField(max_length=6)
    title = models.CharField(max_length=TITLE_LENGTH)
    summary = models.TextField(blank=True, default="")
    facts = models.JSONField(default=dict)
    states = models.JSONField(default=list)
    link = models.CharField(max_length=2000, blank=True, default="")
    runbook_url = models.CharField(max_length=2000, blank=True, default="")
    opened_at = models.DateTimeField()
    firing_since = models.DateTimeField()
    observed_at = models.DateTimeField()
    heard_at = models.DateTimeField(null=True, blank=True)
    changed_at = models.DateTimeField()
    reopened = models.PositiveIntegerField(default=0)
    acknowledged_by = models.CharField(max_length=200, blank=True, default="")
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    silenced_until = models.DateTimeField(null=True, blank=True)
    silenced_by = models.CharField(max_length=200, blank=True, default="")
    silence_reason = models.TextField(blank=True, default="")
    resolved_at = models.DateTimeField(null=True, blank=True)
    resolved_by = models.CharField(max_length=200, blank=True, default="")
    has_cleared = models.BooleanField(default=False)
    remind_at = models.DateTimeField(null=True, blank=True)
    revision = models.PositiveBigIntegerField(default=1)

    class Meta:
        constraints: ClassVar = [
            one_of("state", IncidentState, "incident_state_known"),
            one_of("severity", Severity, "incident_severity_known"),
            models.UniqueConstraint(
                fields=["key"], condition=~models.Q(state=IncidentState.RESOLVED.value), name="incident_one_open"
            ),
            models.CheckConstraint(
                condition=models.Q(state=IncidentState.RESOLVED.value) ^ models.Q(resolved_at__isnull=True),
                name="incident_resolved_has_time",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["key", "-opened_at"], name="incident_by_key"),
            models.Index(fields=["subject_name", "-opened_at"], name="incident_by_subject"),
            models.Index(fields=["remind_at"], condition=models.Q(remind_at__isnull=False), name="incident_remind"),
        ]

    def __str__(self) -> str:
        return self.title


class IncidentChange(models.Model):
    """One change of an incident; the database refuses to alter or delete it. ``by`` "" is the product itself."""

    incident = models.ForeignKey(Incident, on_delete=models.PROTECT, related_name="changes")
    at = models.DateTimeField()
    kind = models.CharField(max_length=16)
    by = models.CharField(max_length=200, blank=True, default="")
    severity = models.CharField(max_length=6)
    sentence = models.TextField(blank=True, default="")
    detail = models.JSONField(default=dict)

    class Meta:
        constraints: ClassVar = [one_of("kind", ChangeKind, "incident_change_known")]
        indexes: ClassVar = [models.Index(fields=["incident", "id"], name="incident_change_order")]

    def __str__(self) -> str:
        return f"{self.incident_id} {self.kind}"


class Channel(models.Model):
    """Where a team is told of alerts. ``address`` is sealed, since most hold a token; ``shown`` is what may be read of
    it. ``secret`` (sealed) signs what a plain webhook gets. A team has at most one default."""

    id = models.CharField(primary_key=True, max_length=40, default=channel_id)
    team = models.ForeignKey("accounts.Team", on_delete=models.PROTECT, related_name="+")
    name = models.CharField(max_length=80)
    kind = models.CharField(max_length=12)
    address = models.TextField()
    shown = models.CharField(max_length=300)
    secret = models.TextField(default="", blank=True)
    is_default = models.BooleanField(default=False)
    state = models.CharField(max_length=12, default=ChannelState.ACTIVE)
    failing_since = models.DateTimeField(null=True, blank=True)
    revision = models.PositiveBigIntegerField(default=1)
    created_by = models.CharField(max_length=200)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints: ClassVar = [
            one_of("state", ChannelState, "channel_state_known"),
            one_of("kind", ChannelKind, "channel_kind_known"),
            models.UniqueConstraint(fields=["team", "name"], name="channel_once_per_team"),
            models.UniqueConstraint(fields=["team"], condition=models.Q(is_default=True), name="channel_one_default"),
        ]

    def __str__(self) -> str:
        return self.name


class Route(models.Model):
    """Which alerts of a team go to which channels; an empty field fits everything. Every route that fits counts."""

    id = models.CharField(primary_key=True, max_length=40, default=route_id)
    team = models.ForeignKey("accounts.Team", on_delete=models.PROTECT, related_name="+")
    severity = models.CharField(max_length=6, blank=True, default="")
    environment = models.CharField(max_length=20, blank=True, default="")
    source = models.CharField(max_length=40, blank=True, default="")
    channels = models.ManyToManyField(Channel, related_name="routes")
    created_by = models.CharField(max_length=200)
    created_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        what = f"{self.severity or 'every severity'} of {self.source or 'every source'}"
        return f"{what} in {self.environment or 'every environment'}"


class Notice(models.Model):
    """One change of an incident for one channel, or a test (no incident). Tried until ``tried_since`` is 24 h ago."""

    id = models.CharField(primary_key=True, max_length=40, default=notice_id)
    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="notices")
    incident = models.ForeignKey(Incident, on_delete=models.CASCADE, null=True, blank=True, related_name="notices")
    change = models.ForeignKey(IncidentChange, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    kind = models.CharField(max_length=16)
    subject = models.CharField(max_length=300)
    body = models.TextField()
    data = models.JSONField(default=dict)
    state = models.CharField(max_length=12, default=DeliveryState.WAITING)
    attempts = models.PositiveIntegerField(default=0)
    last_error = models.TextField(default="", blank=True)
    created_at = models.DateTimeField()
    tried_since = models.DateTimeField()
    due_at = models.DateTimeField()
    settled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            one_of("state", DeliveryState, "notice_state_known"),
            models.UniqueConstraint(fields=["channel", "change"], name="notice_once"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["due_at"], condition=models.Q(state="waiting"), name="notice_due"),
            models.Index(fields=["channel", "-id"], name="notice_by_channel"),
            models.Index(fields=["incident", "id"], name="notice_by_incident"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} to {self.channel_id}"


class Receiver(models.Model):
    """An Alertmanager that may report alerts, by a token of its own (only its hash is kept). ``team`` None: the label
    says which team. ``labels`` names the labels that are read, ``page_values`` which severities get somebody up.

    ``repeat_seconds``: its ``repeat_interval``; what is not said again for longer is taken as over. ``attended_at`` and
    ``listening_since``: when somebody here last looked for that, and since when without a pause.
    """

    id = models.CharField(primary_key=True, max_length=40, default=receiver_id)
    team = models.ForeignKey("accounts.Team", on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    name = models.CharField(max_length=80, unique=True)
    token_hash = models.CharField(max_length=64)
    labels = models.JSONField(default=dict)
    page_values = models.JSONField(default=list)
    repeat_seconds = models.PositiveIntegerField(default=REPEAT_SECONDS, db_default=REPEAT_SECONDS)
    attended_at = models.DateTimeField(null=True, blank=True)
    listening_since = models.DateTimeField(null=True, blank=True)
    accepted = models.PositiveBigIntegerField(default=0)
    rejected = models.PositiveBigIntegerField(default=0)
    last_rejection = models.TextField(blank=True, default="")
    seen_at = models.DateTimeField(null=True, blank=True)
    created_by = models.CharField(max_length=200)
    created_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return self.name


class Subscription(models.Model):
    """An address of a team that is told of events.

    ``secret`` and ``previous_secret`` are sealed; the latter signs too until ``previous_until``. ``failing_since``
    is the first failure after the last success.
    """

    id = models.CharField(primary_key=True, max_length=40, default=subscription_id)
    team = models.ForeignKey("accounts.Team", on_delete=models.PROTECT, related_name="+")
    name = models.CharField(max_length=80)
    url = models.CharField(max_length=2000)
    events = models.JSONField(default=list)
    environments = models.JSONField(default=list)
    state = models.CharField(max_length=12, default=SubscriptionState.ACTIVE)
    reason = models.TextField(default="", blank=True)
    secret = models.TextField()
    previous_secret = models.TextField(default="", blank=True)
    previous_until = models.DateTimeField(null=True, blank=True)
    failing_since = models.DateTimeField(null=True, blank=True)
    revision = models.PositiveBigIntegerField(default=1)
    created_by = models.CharField(max_length=200)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints: ClassVar = [
            one_of("state", SubscriptionState, "subscription_state_known"),
            models.UniqueConstraint(fields=["team", "name"], name="subscription_once_per_team"),
        ]

    def __str__(self) -> str:
        return self.name


class Delivery(models.Model):
    """One event for one subscription; its id is the ``webhook-id``, the same in every attempt, so that receivers can
    drop repetitions. ``body`` is the text as it is signed and sent."""

    id = models.CharField(primary_key=True, max_length=40, default=message_id)
    subscription = models.ForeignKey(Subscription, on_delete=models.CASCADE, related_name="deliveries")
    event = models.CharField(max_length=64)
    source = models.CharField(max_length=120)
    body = models.TextField()
    state = models.CharField(max_length=12, default=DeliveryState.WAITING)
    attempts = models.PositiveIntegerField(default=0)
    response_status = models.PositiveIntegerField(null=True, blank=True)
    last_error = models.TextField(default="", blank=True)
    created_at = models.DateTimeField(db_default=Now())
    due_at = models.DateTimeField(db_default=Now())
    settled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            one_of("state", DeliveryState, "alert_delivery_state_known"),
            models.UniqueConstraint(fields=["subscription", "source"], name="alert_delivery_once"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["due_at"], condition=models.Q(state="waiting"), name="alert_delivery_due"),
        ]

    def __str__(self) -> str:
        return f"{self.event} to {self.subscription_id}"


class Reading(models.Model):
    """How far the audit log has been read for telling; one row."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    seq = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"read up to {self.seq}"


class Watch(models.Model):
    """When somebody last looked whether anything is wrong (domain/watches.py), since when without a longer pause."""

    name = models.CharField(primary_key=True, max_length=20)
    at = models.DateTimeField()
    since = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name} looked at {self.at}"


class Mood(models.Model):
    """An endpoint that was last told of as degraded; the row goes when it recovers."""

    endpoint_id = models.CharField(primary_key=True, max_length=40)
    since = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return f"{self.endpoint_id} is degraded since {self.since}"


sealed_field("alerts.Channel", "address")
sealed_field("alerts.Channel", "secret")
sealed_field("alerts.Subscription", "secret")
sealed_field("alerts.Subscription", "previous_secret")
