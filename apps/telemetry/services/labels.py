"""Labels into the database: the last word on a request wins; a rehearsal says what would happen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from django.db import transaction

from apps.audit.services.record import event_record
from apps.kernel.actor import Actor
from apps.kernel.clock import now
from apps.targets.services.scope import endpoint_require
from apps.telemetry.domain.labels import LabelRows, NewLabel, labels_from
from apps.telemetry.models import InferenceSample, Label

BATCH = 5_000


@dataclass(frozen=True, slots=True)
class LabelsResult:
    """``matched``: labels whose request was sampled (others wait for theirs); ``replaced``: one was there before."""

    accepted: int
    rejected_count: int
    rejected: list[dict[str, Any]]
    repeated: int
    matched: int
    replaced: int
    is_dry_run: bool
    reasons: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def labels_upload(*, actor: Actor, endpoint_id: str, form: str, raw: Any, is_dry_run: bool = False) -> LabelsResult:
    """Labels from rows or a file. Raises NotFound, Forbidden, InvalidInput; rows are refused one by one."""
    endpoint = endpoint_require(actor, "label.write", endpoint_id)
    rows = labels_from(form, raw, at=now())
    result = _looked_at(endpoint.name, rows, is_dry_run=is_dry_run)
    if is_dry_run or not rows.taken:
        return result
    with transaction.atomic():
        labels_write(endpoint.name, rows.taken.values())
        event_record(
            actor=actor, verb="labels.uploaded", subject_kind="endpoint", subject_id=endpoint.pk,
            subject_label=endpoint.name,
            detail={"format": form, "accepted": result.accepted, "rejected": result.rejected_count},
        )  # fmt: skip
    return result


def labels_take(*, endpoint: str, form: str, raw: Any, is_dry_run: bool) -> LabelsResult:
    """The same for the ingest door, whose token is nobody's. Raises InvalidInput."""
    rows = labels_from(form, raw, at=now())
    result = _looked_at(endpoint, rows, is_dry_run=is_dry_run)
    if not is_dry_run:
        with transaction.atomic():
            labels_write(endpoint, rows.taken.values())
    return result


def labels_write(endpoint: str, labels: Iterable[NewLabel]) -> None:
    """In the order of request ids, so that two uploads of the same requests never wait for each other in a ring."""
    rows = [
        Label(endpoint=endpoint, request_id=one.request_id, value=one.value, at=one.at)
        for one in sorted(labels, key=lambda one: one.request_id)
    ]
    Label.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["endpoint", "request_id"],
        update_fields=["value", "at"],
        batch_size=BATCH,
    )


def _looked_at(endpoint: str, rows: LabelRows, *, is_dry_run: bool) -> LabelsResult:
    ids = list(rows.taken)
    matched = replaced = 0
    for start in range(0, len(ids), BATCH):
        part = ids[start : start + BATCH]
        found = InferenceSample.objects.filter(endpoint=endpoint, request_id__in=part)
        matched += found.values("request_id").distinct().count()
        replaced += Label.objects.filter(endpoint=endpoint, request_id__in=part).count()
    return LabelsResult(
        len(ids), rows.rejected_count, rows.rejected, rows.repeated, matched, replaced, is_dry_run, rows.reasons
    )
