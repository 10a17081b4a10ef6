"""Reads of sampled requests, labels and the workers that report."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from django.db import connection
from django.db.models import Count, Max

from apps.kernel.clock import now
from apps.telemetry.models import InferenceSample, Label, Source


def source_list(endpoint: str) -> list[Source]:
    """The serving workers that have reported for an endpoint, newest first."""
    return list(Source.objects.filter(endpoint=endpoint).order_by("-seen_at"))


@dataclass(frozen=True, slots=True)
class SamplePair:
    """One request that two versions answered: outputs of each, and the truth where it is known (None: no label)."""

    request_id: str
    at: datetime
    inputs: dict[str, Any]
    first: list[Any]
    second: list[Any]
    label: Any


def sample_pairs(
    endpoint: str, first: str, second: str, *, since: datetime, until: datetime, limit: int = 50_000
) -> list[SamplePair]:
    """Requests answered well by ``first`` as traffic and copied to ``second``, newest first, joined by request id."""
    query = """
        SELECT a.request_id, a.at, a.inputs, a.outputs, b.outputs, l.value
          FROM telemetry_inferencesample a
          JOIN telemetry_inferencesample b
            ON b.endpoint = a.endpoint AND b.request_id = a.request_id AND b.variant = %s AND b.route = 'mirrored'
          LEFT JOIN telemetry_label l ON l.endpoint = a.endpoint AND l.request_id = a.request_id
         WHERE a.endpoint = %s AND a.variant = %s AND a.route IN ('weighted', 'assigned')
           AND a.at >= %s AND a.at < %s AND a.status < 400 AND b.status < 400
         ORDER BY a.at DESC, a.request_id LIMIT %s
        """
    with connection.cursor() as cursor:
        cursor.execute(query, [second, endpoint, first, since, until, limit])
        return [SamplePair(row[0], row[1], *(_json(value) for value in row[2:])) for row in cursor.fetchall()]


def _json(value: Any) -> Any:
    return orjson.loads(value) if isinstance(value, str) else value


def label_count(endpoint: str) -> int:
    return Label.objects.filter(endpoint=endpoint).count()


@dataclass(frozen=True, slots=True)
class KeptCounts:
    """``samples`` of the last 24 hours; ``labels`` all that are kept."""

    samples: int
    newest_sample: datetime | None
    labels: int
    newest_label: datetime | None


def kept_counts(endpoint: str) -> KeptCounts:
    """What is kept of an endpoint's requests, in two queries."""
    recent = InferenceSample.objects.filter(endpoint=endpoint, at__gte=now() - timedelta(hours=24))
    samples = recent.aggregate(count=Count("id"), newest=Max("at"))
    labels = Label.objects.filter(endpoint=endpoint).aggregate(count=Count("id"), newest=Max("at"))
    return KeptCounts(samples["count"], samples["newest"], labels["count"], labels["newest"])
