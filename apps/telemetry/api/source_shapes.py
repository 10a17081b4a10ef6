"""What the API says about sources, the inference log and labels."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from rest_framework import serializers

from apps.kernel.rest import iso
from apps.telemetry.models import InferenceFile, InferencePolicy, IngestSource, PullSource
from apps.telemetry.selectors.sources import pull_finding


class SenderSchema(serializers.Serializer[Any]):
    source = serializers.CharField()  # type: ignore[assignment]
    format = serializers.CharField()
    variant = serializers.CharField()
    received = serializers.IntegerField()
    accepted = serializers.IntegerField()
    rejected = serializers.IntegerField()
    dropped = serializers.IntegerField()
    late = serializers.IntegerField()
    skewed = serializers.IntegerField()
    skew_seconds = serializers.FloatField(allow_null=True)
    resolution = serializers.CharField()
    seen_at = serializers.DateTimeField()


class SendersSchema(serializers.Serializer[Any]):
    object = serializers.CharField()
    endpoint = serializers.CharField()
    items = SenderSchema(many=True)


class SkippedVariantSchema(serializers.Serializer[Any]):
    variant = serializers.CharField(allow_blank=True)
    reason = serializers.CharField()


class PullSourceSchema(serializers.Serializer[Any]):
    id = serializers.CharField()
    object = serializers.CharField()
    kind = serializers.CharField()
    config = serializers.DictField()
    has_token = serializers.BooleanField()
    interval_seconds = serializers.IntegerField()
    is_enabled = serializers.BooleanField()
    revision = serializers.IntegerField()
    verdict = serializers.CharField()
    reason = serializers.CharField()
    newest_at = serializers.DateTimeField(allow_null=True)
    asked_at = serializers.DateTimeField(allow_null=True)
    resolution = serializers.CharField()
    skipped = SkippedVariantSchema(many=True)


class PullSourcesSchema(serializers.Serializer[Any]):
    object = serializers.CharField()
    endpoint = serializers.CharField()
    items = PullSourceSchema(many=True)


class InferencePolicySchema(serializers.Serializer[Any]):
    object = serializers.CharField()
    endpoint = serializers.CharField()
    retention_days = serializers.IntegerField()
    default = serializers.CharField()
    redaction = serializers.DictField(child=serializers.CharField())
    revision = serializers.IntegerField()


class InferenceFileSchema(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    object = serializers.CharField()
    variant = serializers.CharField()
    path = serializers.CharField()
    since = serializers.DateTimeField()
    until = serializers.DateTimeField()
    requests = serializers.IntegerField()
    rows = serializers.IntegerField()
    size_bytes = serializers.IntegerField()
    digest = serializers.CharField()


class RejectedLabelSchema(serializers.Serializer[Any]):
    index = serializers.IntegerField()
    code = serializers.CharField()
    detail = serializers.CharField()


class LabelsSchema(serializers.Serializer[Any]):
    object = serializers.CharField()
    accepted = serializers.IntegerField()
    rejected_count = serializers.IntegerField()
    rejected = RejectedLabelSchema(many=True)
    repeated = serializers.IntegerField()
    matched = serializers.IntegerField(help_text="Labels whose request was sampled; the others wait for theirs.")
    replaced = serializers.IntegerField()
    is_dry_run = serializers.BooleanField()
    reasons = serializers.DictField(child=serializers.IntegerField(), help_text="Rejected rows by reason.")


def sender_show(one: IngestSource) -> dict[str, Any]:
    names = ("source", "format", "variant", "received", "accepted", "rejected", "dropped", "late", "skewed")
    facts = {name: getattr(one, name) for name in (*names, "skew_seconds", "resolution")}
    return {**facts, "seen_at": iso(one.seen_at)}


def pull_show(one: PullSource, at: datetime) -> dict[str, Any]:
    finding = pull_finding(one, at)
    return {
        "id": one.pk, "object": "pull_source", "kind": one.kind, "config": one.config, "has_token": bool(one.token),
        "interval_seconds": one.interval_seconds, "is_enabled": one.is_enabled, "revision": one.revision,
        "verdict": finding.verdict.value, "reason": finding.reason, "newest_at": iso(one.newest_at),
        "asked_at": iso(one.asked_at), "resolution": one.resolution, "skipped": one.skipped,
    }  # fmt: skip


def policy_show(one: InferencePolicy) -> dict[str, Any]:
    names = ("endpoint", "retention_days", "default", "redaction", "revision")
    return {"object": "inference_policy", **{name: getattr(one, name) for name in names}}


def file_show(one: InferenceFile) -> dict[str, Any]:
    names = ("id", "variant", "path", "requests", "rows", "size_bytes", "digest")
    facts = {name: getattr(one, name) for name in names}
    return {**facts, "object": "inference_file", "since": iso(one.since), "until": iso(one.until)}
