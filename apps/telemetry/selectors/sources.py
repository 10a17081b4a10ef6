"""Reads of sources: who sends, how far its clock is off, and how the pull sources are."""

from __future__ import annotations

from datetime import datetime

from django.db.models import QuerySet

from apps.kernel.verdicts import Finding, Verdict
from apps.telemetry.models import InferenceFile, IngestSource, PullSource

STALE_SECONDS = 120.0
RECENT = 200


def pull_source_list(endpoint: str) -> QuerySet[PullSource]:
    """The pull sources of an endpoint, by name."""
    return PullSource.objects.filter(endpoint__name=endpoint).select_related("endpoint").order_by("kind")


def pull_finding(source: PullSource, at: datetime) -> Finding:
    """How a source is: ERROR with its cause, NO_DATA with its age, PENDING before the first answer, else PASS."""
    if not source.is_enabled:
        return Finding(Verdict.PENDING, "switched off", {})
    if source.failed_since is not None:
        age = round((at - source.failed_since).total_seconds())
        return Finding(Verdict.ERROR, f"{source.fault} Failing for {age} s.", {"failing_seconds": age})
    if source.asked_until == 0:
        return Finding(Verdict.PENDING, "not asked yet", {})
    if source.newest_at is None:
        return Finding(Verdict.NO_DATA, "It has never had a sample of this endpoint.", {})
    age = round((at - source.newest_at).total_seconds())
    # Two askings and the store's own delay may pass before a sample is seen.
    limit = STALE_SECONDS + 2 * source.interval_seconds + (180 if source.kind == "cloudwatch" else 0)
    if age > limit:
        return Finding(Verdict.NO_DATA, f"Its newest sample is {age} s old.", {"age_seconds": age})
    return Finding(Verdict.PASS, f"Its newest sample is {age} s old.", {"age_seconds": age})


def inference_file_list(endpoint: str) -> QuerySet[InferenceFile]:
    """The inference log's files of an endpoint."""
    return InferenceFile.objects.filter(endpoint=endpoint)


def ingest_source_list(endpoint: str) -> list[IngestSource]:
    """Who has sent something about an endpoint, newest first."""
    return list(IngestSource.objects.filter(endpoint=endpoint).order_by("-seen_at")[:RECENT])


def ingest_losses(since: datetime) -> list[IngestSource]:
    """Who has sent something that found no room since then, the newest loss first."""
    return list(IngestSource.objects.filter(dropped_at__gte=since).order_by("-dropped_at", "pk")[:RECENT])


def resolution_of(endpoint: str, variant: str, since: datetime) -> str:
    """``exact``, or what the coarsest latency source of a variant was since then: to be shown beside a percentile."""
    sent = IngestSource.objects.filter(endpoint=endpoint, variant=variant, seen_at__gte=since).exclude(
        resolution="exact"
    )
    pulled = PullSource.objects.filter(endpoint__name=endpoint, newest_at__gte=since).exclude(resolution="exact")
    found = [*sent.values_list("resolution", flat=True), *pulled.values_list("resolution", flat=True)]
    return next(iter(found), "exact")
