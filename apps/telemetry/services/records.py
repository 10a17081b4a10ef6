"""Writes sampled payloads and labels, and forgets what is old."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from apps.kernel.clock import now
from apps.kernel.errors import InvalidInput
from apps.telemetry.domain.batch import FUTURE_SECONDS, KEPT_SAMPLES_SECONDS, ROUTES, text
from apps.telemetry.domain.labels import KEPT_SECONDS, NewLabel, label_of
from apps.telemetry.domain.limits import MAX_LATENCY_SECONDS, packed
from apps.telemetry.domain.redaction import Rules
from apps.telemetry.models import InferenceSample, IngestSource, Label, Source
from apps.telemetry.services.labels import labels_write
from apps.telemetry.services.policies import rules_of

KEEP_SLOTS = timedelta(days=14)
KEEP_SAMPLES = timedelta(seconds=KEPT_SAMPLES_SECONDS)
KEEP_LABELS = timedelta(seconds=KEPT_SECONDS)
KEEP_KEYS = timedelta(hours=48)
MAX_ROWS = 5_000


def _rows(body: Any, name: str) -> Sequence[Mapping[str, Any]]:
    rows = body.get(name) if isinstance(body, Mapping) else None
    if not isinstance(rows, list) or len(rows) > MAX_ROWS or not all(isinstance(row, Mapping) for row in rows):
        raise InvalidInput.at(f"/{name}", "invalid", f"{name} must be a list of at most {MAX_ROWS} objects.")
    return rows


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
    route = row.get("route")
    if not isinstance(route, str) or route not in ROUTES:
        raise ValueError("route is unknown")
    outputs = row.get("outputs") or []
    if not isinstance(outputs, list):
        raise ValueError("outputs must be a list")  # noqa: TRY004  answered as bad input like the rest
    inputs = _columns(row)
    for name, value in (("inputs", inputs), ("outputs", outputs)):
        try:
            packed(value)
        except ValueError as error:
            raise ValueError(f"{name} {error}") from error
    return InferenceSample(
        endpoint=endpoint,
        variant=variant,
        request_id=text(row, "request_id", 128),
        route=route,
        period=_whole(row, "period", 0, 2**31 - 1),
        at=_moment(row.get("at")),
        status=_whole(row, "status", 100, 599),
        latency_s=_latency(row.get("latency_s")),
        inputs=rules.applied(inputs),
        outputs=outputs,
    )


def _whole(row: Mapping[str, Any], name: str, least: int, most: int) -> int:
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{name} must be a whole number from {least} to {most}")
    return value


def _latency(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_LATENCY_SECONDS:
        raise ValueError(f"latency_s must be a number of seconds from 0 to {MAX_LATENCY_SECONDS:,.0f}")
    return float(value)


def _moment(value: Any) -> datetime:
    """From Unix seconds, between what is kept and five minutes ahead: a far one would never be forgotten."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("at must be Unix seconds")  # noqa: TRY004  answered as bad input like the rest
    at = now().timestamp()
    if not value <= at + FUTURE_SECONDS:
        raise ValueError("at lies more than five minutes in the future")
    if value < at - KEEP_SAMPLES.total_seconds():
        raise ValueError("at is older than the seven days for which samples are kept")
    return datetime.fromtimestamp(value, UTC)


def _columns(row: Mapping[str, Any]) -> Mapping[str, Any]:
    inputs = row.get("inputs") or {}
    if not isinstance(inputs, Mapping):
        raise ValueError("inputs must be an object of columns")  # noqa: TRY004  answered as bad input like the rest
    return inputs


def labels_add(body: Any) -> tuple[int, list[dict[str, Any]]]:
    """Store the truth about requests, whenever it comes; the last word on a request wins."""
    rows = _rows(body, "labels")
    endpoint = text(body, "endpoint", 80)
    taken: dict[str, NewLabel] = {}
    rejected: list[dict[str, Any]] = []
    moment = now()
    for index, row in enumerate(rows):
        try:
            label = label_of(row, moment)
        except ValueError as error:
            rejected.append({"index": index, "code": "invalid", "detail": str(error)})
        else:
            taken[label.request_id] = label
    labels_write(endpoint, taken.values())
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
