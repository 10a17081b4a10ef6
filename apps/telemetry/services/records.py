"""Writes sampled payloads and labels, and forgets what is old."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from apps.kernel.clock import now
from apps.kernel.errors import InvalidInput
from apps.telemetry.domain.batch import ROUTES, text
from apps.telemetry.domain.redaction import Rules
from apps.telemetry.models import InferenceSample, IngestSource, Label, Source
from apps.telemetry.services.policies import rules_of

KEEP_SLOTS = timedelta(days=14)
KEEP_SAMPLES = timedelta(days=7)
KEEP_LABELS = timedelta(days=90)
KEEP_KEYS = timedelta(hours=48)
MAX_ROWS = 5_000


def _rows(body: Any, name: str) -> Sequence[Mapping[str, Any]]:
    rows = body.get(name) if isinstance(body, Mapping) else None
    if not isinstance(rows, list) or len(rows) > MAX_ROWS or not all(isinstance(row, Mapping) for row in rows):
        raise InvalidInput.at(f"/{name}", "invalid", f"{name} must be a list of at most {MAX_ROWS} objects.")
    return rows


def _moment(value: Any) -> datetime:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 4_102_444_800:
        raise ValueError("at must be Unix seconds")
    return datetime.fromtimestamp(value, UTC)


def samples_add(body: Any) -> tuple[int, list[dict[str, Any]]]:
    """Store sampled inferences; (accepted, rejected rows). A repeated sample changes nothing."""
    rows = _rows(body, "samples")
    endpoint, variant = text(body, "endpoint", 80), text(body, "variant", 63)
    rules = rules_of(endpoint)
    taken: list[InferenceSample] = []
    rejected: list[dict[str, Any]] = []
    for index, row in enumerate(rows):
        try:
            taken.append(_sample(row, endpoint, variant, rules))
        except (KeyError, TypeError, ValueError, InvalidInput) as error:
            rejected.append({"index": index, "code": "invalid", "detail": str(error)})
    InferenceSample.objects.bulk_create(taken, ignore_conflicts=True)
    return len(taken), rejected


def _sample(row: Mapping[str, Any], endpoint: str, variant: str, rules: Rules) -> InferenceSample:
    if row.get("route") not in ROUTES:
        raise ValueError("route is unknown")
    return InferenceSample(
        endpoint=endpoint,
        variant=variant,
        request_id=text(row, "request_id", 128),
        route=row["route"],
        period=int(row["period"]),
        at=_moment(row["at"]),
        status=int(row["status"]),
        latency_s=float(row["latency_s"]),
        inputs=rules.applied(_columns(row)),
        outputs=row.get("outputs") or [],
    )


def _columns(row: Mapping[str, Any]) -> Mapping[str, Any]:
    inputs = row.get("inputs") or {}
    if not isinstance(inputs, Mapping):
        raise ValueError("inputs must be an object of columns")  # noqa: TRY004  answered as bad input like the rest
    return inputs


def labels_add(body: Any) -> tuple[int, list[dict[str, Any]]]:
    """Store the truth about requests, whenever it comes; the last word on a request wins."""
    rows = _rows(body, "labels")
    endpoint = text(body, "endpoint", 80)
    taken: dict[str, Label] = {}
    rejected: list[dict[str, Any]] = []
    for index, row in enumerate(rows):
        try:
            label = Label(
                endpoint=endpoint, request_id=text(row, "request_id", 128), value=row["value"], at=_moment(row["at"])
            )
        except (KeyError, TypeError, ValueError, InvalidInput) as error:
            rejected.append({"index": index, "code": "invalid", "detail": str(error)})
        else:
            taken[label.request_id] = label
    Label.objects.bulk_create(
        taken.values(), update_conflicts=True, unique_fields=["endpoint", "request_id"], update_fields=["value", "at"]
    )
    return len(taken), rejected


def telemetry_prune() -> dict[str, int]:
    """Delete what is past its keeping; returns rows deleted by kind. Slots go with their roll-ups, see rollups.py."""
    moment = now()
    return {
        "sources": Source.objects.filter(seen_at__lt=moment - KEEP_SLOTS).delete()[0],
        "samples": InferenceSample.objects.filter(at__lt=moment - KEEP_SAMPLES).delete()[0],
        "keys": Source.objects.filter(source__startswith="key/", seen_at__lt=moment - KEEP_KEYS).delete()[0],
        "senders": IngestSource.objects.filter(seen_at__lt=moment - KEEP_SLOTS).delete()[0],
        "labels": Label.objects.filter(at__lt=moment - KEEP_LABELS).delete()[0],
    }
