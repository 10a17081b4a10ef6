"""The inference log: samples move from the database into Parquet files, in batches, once.

1. take a batch of samples that stand in no file; 2. write the file (temporary name, rename); 3. in one transaction mark
exactly these samples and add the file's row. Whoever finds fewer samples to mark than it wrote was beaten: its file has
no row and is removed. A crash before 3 leaves a file without a row, which the sweep removes; no row lacks its file.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from django.conf import settings
from django.db import transaction
from django.db.models import Count, Min

from apps.kernel.clock import now
from apps.kernel.errors import DriverError
from apps.telemetry.domain.parquet import table_of
from apps.telemetry.drivers.files import InferenceFiles, folder_of
from apps.telemetry.models import InferenceFile, InferencePolicy, InferenceSample
from apps.telemetry.services.policies import policy_of

FILE_ROWS = 5_000
FILE_AGE = timedelta(minutes=5)
MAX_ROWS = 1_000_000
FIELDS = ("id", "request_id", "at", "variant", "route", "period", "status", "latency_s", "inputs", "outputs")


def inference_files() -> InferenceFiles:
    """By PILOTHOUSE_INFERENCE_LOG (a folder or any fsspec URL); without it a folder of this installation."""
    return _files(settings.PILOTHOUSE_INFERENCE_LOG or str(Path(settings.PILOTHOUSE_HOME) / "inference"))


@lru_cache(maxsize=4)
def _files(url: str) -> InferenceFiles:
    return InferenceFiles(url)


def inference_log_write(*, is_everything: bool = False) -> int:
    """Write what is old enough or enough for a file (``is_everything``: all there is); how many files."""
    ready = (
        InferenceSample.objects.filter(is_logged=False)
        .values("endpoint", "variant")
        .annotate(count=Count("id"), oldest=Min("at"))
    )
    moment, written = now(), 0
    for group in ready:
        is_due = is_everything or group["count"] >= FILE_ROWS or group["oldest"] < moment - FILE_AGE
        left = group["count"]
        while is_due and left > 0:
            taken = _write_one(group["endpoint"], group["variant"])
            written += bool(taken)
            left = left - taken if taken else 0
    return written


def _write_one(endpoint: str, variant: str) -> int:
    found = InferenceSample.objects.filter(endpoint=endpoint, variant=variant, is_logged=False).order_by("id")
    samples: Sequence[dict[str, Any]] = list(found.values(*FIELDS)[:FILE_ROWS])
    if not samples:
        return 0
    since, until = min(one["at"] for one in samples), max(one["at"] for one in samples)
    table = table_of(samples)
    files = inference_files()
    folder = folder_of(endpoint, variant, f"{since:%Y-%m-%d}")
    path, size, digest = files.write(folder, f"{since:%H%M%S}-{samples[0]['id']}", table)
    row = InferenceFile(
        endpoint=endpoint, variant=variant, path=path, since=since, until=until, requests=len(samples),
        rows=table.num_rows, size_bytes=size, digest=digest,
    )  # fmt: skip
    with transaction.atomic():
        ids = [one["id"] for one in samples]
        marked = InferenceSample.objects.filter(pk__in=ids, is_logged=False).update(is_logged=True)
        if marked == len(ids):
            row.save(force_insert=True)
            return len(ids)
        transaction.set_rollback(True)
    if not InferenceFile.objects.filter(path=path).exists():  # the same bytes of a winner have the same name
        files.remove(path)
    return 0


def inference_log_prune() -> dict[str, int]:
    """Forget what is past its endpoint's retention (the row first, then the file), and sweep what crashes left."""
    moment, removed = now(), 0
    names = set(InferenceFile.objects.values_list("endpoint", flat=True).distinct())
    names |= set(InferencePolicy.objects.values_list("endpoint", flat=True))
    for name in names:
        limit = moment - timedelta(days=policy_of(name).retention_days)
        InferenceSample.objects.filter(endpoint=name, at__lt=limit).delete()
        for file in InferenceFile.objects.filter(endpoint=name, until__lt=limit)[:1000]:
            file.delete()
            with suppress(DriverError):  # the sweep, or the bucket's own rule, tries again
                inference_files().remove(file.path)
            removed += 1
    known = set(InferenceFile.objects.values_list("path", flat=True))
    return {"files": removed, "swept": inference_files().sweep(known)}


def inference_read(
    endpoint: str, variant: str, *, since: datetime, until: datetime, max_rows: int = MAX_ROWS
) -> pa.Table:
    """Logged rows of a range (``since`` inclusive, ``until`` exclusive), oldest file first, at most ``max_rows``.

    Samples reach a file within about five minutes. Raises DriverError; a damaged file is an error, never a gap.
    """
    found = InferenceFile.objects.filter(endpoint=endpoint, variant=variant, since__lt=until, until__gte=since)
    tables: list[pa.Table] = []
    count = 0
    for file in found.order_by("since", "id"):
        table = inference_files().read(file.path, file.digest)
        at = table.column("at")
        mask = pc.and_(pc.greater_equal(at, pa.scalar(since, at.type)), pc.less(at, pa.scalar(until, at.type)))
        tables.append(table.filter(mask))
        count += tables[-1].num_rows
        if count >= max_rows:
            break
    if not tables:
        return table_of([])
    return pa.concat_tables(_unified(tables)).slice(0, max_rows)


def _unified(tables: list[pa.Table]) -> list[pa.Table]:
    """One schema: a column that is text in one file and a number in another is text in all."""
    fields: dict[str, pa.DataType] = {}
    for table in tables:
        for one in table.schema:
            known = fields.setdefault(one.name, one.type)
            if known != one.type:
                numbers = {pa.int64(), pa.float64()}
                fields[one.name] = pa.float64() if {known, one.type} <= numbers else pa.string()
    schema = pa.schema(list(fields.items()))
    found = []
    for table in tables:
        columns = [
            table.column(one.name).cast(one.type) if one.name in table.schema.names else pa.nulls(len(table), one.type)
            for one in schema
        ]
        found.append(pa.Table.from_arrays(columns, schema=schema))
    return found
