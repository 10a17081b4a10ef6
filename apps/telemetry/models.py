"""Ten-second slots per endpoint, variant, route kind and period; samples; labels. Endpoint and variant are names:
telemetry arrives from the data plane, which knows nothing of our rows."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from django.db import models
from django.db.models.functions import Now

from apps.telemetry.models_intake import InferenceFile, InferencePolicy, IngestSource, PullSource
from apps.telemetry.models_rollups import RollUp, RollUpMark, Summed

__all__ = [
    "InferenceFile",
    "InferencePolicy",
    "InferenceSample",
    "IngestSource",
    "Label",
    "PullSource",
    "RollUp",
    "RollUpMark",
    "RouteKind",
    "Slot",
    "Source",
]


class RouteKind(StrEnum):
    WEIGHTED = "weighted"
    FORCED = "forced"
    MIRRORED = "mirrored"
    PROBE = "probe"
    ASSIGNED = "assigned"
    UNSERVED = "unserved"


class Slot(Summed):
    """The sum of every delta reported for one slot."""

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["endpoint", "slot_at", "variant", "route", "period"], name="slot_once")
        ]
        indexes: ClassVar = [models.Index(fields=["endpoint", "variant", "period"], name="slot_by_period")]

    def __str__(self) -> str:
        return f"{self.endpoint}/{self.variant}@{self.slot_at}"


class Source(models.Model):
    """The last batch accepted from one serving worker: what came before it is a duplicate."""

    source = models.CharField(primary_key=True, max_length=120)
    last_seq = models.PositiveBigIntegerField(default=0)
    endpoint = models.CharField(max_length=80)
    variant = models.CharField(max_length=63)
    seen_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return f"{self.source}#{self.last_seq}"


class InferenceSample(models.Model):
    """A sampled request and its answer. ``status`` and ``latency_s`` are null where the source knows neither
    (CloudEvents). ``is_logged`` once it stands in a file of the inference log."""

    id = models.BigAutoField(primary_key=True)
    request_id = models.CharField(max_length=128)
    endpoint = models.CharField(max_length=80)
    variant = models.CharField(max_length=63)
    route = models.CharField(max_length=8)
    period = models.PositiveIntegerField()
    at = models.DateTimeField()
    status = models.PositiveSmallIntegerField(null=True)
    latency_s = models.FloatField(null=True)
    inputs = models.JSONField(default=dict)
    outputs = models.JSONField(default=list)
    is_logged = models.BooleanField(default=False, db_default=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["endpoint", "request_id", "variant"], name="sample_once")
        ]
        indexes: ClassVar = [
            models.Index(fields=["endpoint", "at"], name="sample_by_time"),
            models.Index(
                fields=["endpoint", "variant", "id"], name="sample_to_log", condition=models.Q(is_logged=False)
            ),
        ]

    def __str__(self) -> str:
        return self.request_id


class Label(models.Model):
    """The truth about one request, arriving later; joins on the request id."""

    id = models.BigAutoField(primary_key=True)
    endpoint = models.CharField(max_length=80)
    request_id = models.CharField(max_length=128)
    value = models.JSONField()
    at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["endpoint", "request_id"], name="label_once")]

    def __str__(self) -> str:
        return f"{self.request_id} = {self.value}"
