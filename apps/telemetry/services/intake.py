"""What the ingest buffer's thread asks of the database: known names, sources' counts, samples of CloudEvents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from django.db import connection

from apps.kernel.clock import now
from apps.targets.selectors import endpoint_list, observed_of, plan_of
from apps.telemetry.domain.known import Known, KnownEndpoint
from apps.telemetry.domain.redaction import Rules
from apps.telemetry.domain.tally import SourceKey, SourceTally
from apps.telemetry.models import InferenceSample
from apps.telemetry.services.policies import rules_of

_UPSERT = """
    INSERT INTO telemetry_ingestsource AS t (source, format, endpoint, variant, received, accepted, rejected, dropped,
                                             late, skewed, skew_seconds, resolution, seen_at, dropped_at)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (endpoint, variant, source, format) DO UPDATE SET
      received = t.received + excluded.received, accepted = t.accepted + excluded.accepted,
      rejected = t.rejected + excluded.rejected, dropped = t.dropped + excluded.dropped,
      late = t.late + excluded.late, skewed = t.skewed + excluded.skewed,
      skew_seconds = coalesce(excluded.skew_seconds, t.skew_seconds), resolution = excluded.resolution,
      seen_at = excluded.seen_at, dropped_at = coalesce(excluded.dropped_at, t.dropped_at)
    """


def known_read() -> Known:
    """Every endpoint's variants (by key, and by version where that is one variant's) and its present period."""
    found: dict[str, KnownEndpoint] = {}
    for endpoint in endpoint_list():
        plan, observed = plan_of(endpoint), observed_of(endpoint)
        variants: dict[str, str] = {}
        for variant in plan.variants if plan else ():
            variants.setdefault(variant.version, variant.key)
        for variant in plan.variants if plan else ():
            variants[variant.key] = variant.key
        route = observed.route if observed else None
        period, applied_at = (plan.route.period if plan else 0), 0.0
        if route is not None:
            period = route.period
            applied_at = route.applied_at.timestamp() if route.applied_at else 0.0
        found[endpoint.name] = KnownEndpoint(endpoint.name, variants, period, applied_at)
    return Known(found, now().timestamp())


def source_tallies_add(taken: Mapping[SourceKey, SourceTally]) -> None:
    """Add what the sources did; in the order of their keys, so that two processes never wait for each other."""
    moment = now()
    rows = [
        (
            source.replace("\x00", "")[:120], form, endpoint, variant, one.tally.received, one.tally.accepted,
            one.tally.rejected, one.tally.dropped, one.tally.late, one.tally.skewed, one.skew_seconds, one.resolution,
            moment, moment if one.tally.dropped else None,
        )
        for (source, form, endpoint, variant), one in sorted(taken.items())
    ]  # fmt: skip
    if rows:
        with connection.cursor() as cursor:
            cursor.executemany(_UPSERT, rows)


def samples_keep(samples: Sequence[Mapping[str, Any]]) -> int:
    """Store joined CloudEvents as samples, redacted; they have no status and no latency. Returns how many were new."""
    rules: dict[str, Rules] = {}
    rows = []
    for sample in samples:
        name = str(sample["endpoint"])
        rule = rules.setdefault(name, rules_of(name))
        rows.append(
            InferenceSample(
                endpoint=name, variant=sample["variant"], request_id=sample["request_id"], route="weighted",
                period=sample["period"], at=datetime.fromtimestamp(float(sample["at"]), UTC), status=None,
                latency_s=None, inputs=rule.applied(sample["inputs"] or {}), outputs=sample["outputs"] or [],
            )
        )  # fmt: skip
    return len(InferenceSample.objects.bulk_create(rows, ignore_conflicts=True, batch_size=500))
