"""What ingestion and the pull sources keep beside slots: sources and their clocks, the inference log's files, rules."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now

from apps.kernel.vault import sealed_field


class IngestSource(models.Model):
    """What one source sent for one variant in one format: counts since ever, its clock, its resolution.

    ``skew_seconds`` is the newest time stamp of a batch minus our clock at its arrival; above zero the source's clock
    runs ahead. ``resolution`` is ``exact``, or what its histograms were: ``schema 3``, ``buckets``, ``percentiles``.
    ``dropped_at``: when something of it last found no room.
    """

    id = models.BigAutoField(primary_key=True)
    source = models.CharField(max_length=120)
    format = models.CharField(max_length=16)
    endpoint = models.CharField(max_length=80)
    variant = models.CharField(max_length=63)
    received = models.PositiveBigIntegerField(default=0)
    accepted = models.PositiveBigIntegerField(default=0)
    rejected = models.PositiveBigIntegerField(default=0)
    dropped = models.PositiveBigIntegerField(default=0)
    late = models.PositiveBigIntegerField(default=0)
    skewed = models.PositiveBigIntegerField(default=0)
    skew_seconds = models.FloatField(null=True)
    resolution = models.CharField(max_length=20, default="exact")
    seen_at = models.DateTimeField(db_default=Now())
    dropped_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["endpoint", "variant", "source", "format"], name="ingest_source_once")
        ]

    def __str__(self) -> str:
        return f"{self.source} ({self.format})"


class InferenceFile(models.Model):
    """One Parquet file of the inference log; the row is written after the file, so a row always has its file."""

    id = models.BigAutoField(primary_key=True)
    endpoint = models.CharField(max_length=80)
    variant = models.CharField(max_length=63)
    path = models.CharField(max_length=400, unique=True)
    since = models.DateTimeField()
    until = models.DateTimeField()
    requests = models.PositiveIntegerField()
    rows = models.PositiveIntegerField()
    size_bytes = models.PositiveBigIntegerField()
    digest = models.CharField(max_length=71)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        indexes: ClassVar = [models.Index(fields=["endpoint", "variant", "since"], name="inference_file_by_time")]

    def __str__(self) -> str:
        return self.path


class InferencePolicy(models.Model):
    """How an endpoint's payloads are kept. ``redaction``: feature -> ``hash``, ``drop``, ``keep``; ``default`` else."""

    endpoint = models.CharField(primary_key=True, max_length=80)
    retention_days = models.PositiveIntegerField(default=90)
    default = models.CharField(max_length=4, default="keep")
    redaction = models.JSONField(default=dict)
    revision = models.PositiveIntegerField(default=1)

    def __str__(self) -> str:
        return self.endpoint


class PullSource(models.Model):
    """A metric store that is asked for an endpoint's slots, and how the last asking went.

    ``asked_until`` (Unix seconds) is the end of what was taken; it moves in the transaction that writes the slots.
    """

    id = models.CharField(primary_key=True, max_length=40)
    endpoint = models.ForeignKey("targets.Endpoint", on_delete=models.CASCADE, related_name="+")
    kind = models.CharField(max_length=16)
    config = models.JSONField(default=dict)
    token = models.TextField(default="", blank=True)
    interval_seconds = models.PositiveIntegerField(default=30)
    is_enabled = models.BooleanField(default=True)
    revision = models.PositiveIntegerField(default=1)
    asked_until = models.FloatField(default=0.0)
    asked_at = models.DateTimeField(null=True)
    due_at = models.DateTimeField(db_default=Now())
    failed_since = models.DateTimeField(null=True)
    fault = models.TextField(default="", blank=True)
    newest_at = models.DateTimeField(null=True)
    resolution = models.CharField(max_length=20, default="exact")
    skipped = models.JSONField(default=list)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["endpoint", "kind"], name="pull_source_once")]

    def __str__(self) -> str:
        return f"{self.kind} of {self.endpoint_id}"


sealed_field("telemetry.PullSource", "token")
