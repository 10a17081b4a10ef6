"""Labels (the truth about requests, arriving later) out of rows, CSV and Parquet: each row is taken or told why not."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from apps.kernel.errors import InvalidInput
from apps.telemetry.domain.batch import FUTURE_SECONDS
from apps.telemetry.domain.limits import packed

MAX_ROWS = 200_000
MAX_BYTES = 8 * 1024 * 1024
MAX_VALUE_BYTES = 4_096
SHOWN = 100
KEPT_SECONDS = 90 * 86_400
COLUMNS = ("request_id", "value", "at")


@dataclass(frozen=True, slots=True)
class NewLabel:
    """``value`` is JSON; ``at`` is when the truth became known."""

    request_id: str
    value: Any
    at: datetime


@dataclass(slots=True)
class LabelRows:
    """The last word of each request, and what was refused: all by reason, the first SHOWN with their row (from 0)."""

    received: int = 0
    taken: dict[str, NewLabel] = field(default_factory=dict)
    repeated: int = 0
    rejected_count: int = 0
    rejected: list[dict[str, Any]] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=dict)

    def add(self, row: Mapping[str, Any], at: datetime) -> None:
        index, self.received = self.received, self.received + 1
        try:
            label = label_of(row, at)
        except ValueError as error:
            self.rejected_count += 1
            self.reasons[str(error)] = self.reasons.get(str(error), 0) + 1
            if len(self.rejected) < SHOWN:
                self.rejected.append({"index": index, "code": "invalid", "detail": str(error)})
            return
        self.repeated += label.request_id in self.taken
        self.taken[label.request_id] = label


def labels_from(form: str, raw: Any, *, at: datetime) -> LabelRows:
    """``form``: ``json`` (decoded rows), ``csv`` or ``parquet`` (bytes). ``at`` stands in where a row has no time.

    Raises InvalidInput when the whole cannot be read, has other columns, or is too large.
    """
    if form not in ("json", "csv", "parquet"):
        raise InvalidInput.at("/format", "bad_format", "Labels come as json, csv or parquet.")
    if form != "json" and len(raw) > MAX_BYTES:
        raise InvalidInput.at("", "too_large", f"A file holds at most {MAX_BYTES:,} bytes; send it in parts.")
    rows = LabelRows()
    for row in {"json": _json_rows, "csv": _csv_rows, "parquet": _parquet_rows}[form](raw):
        if rows.received >= MAX_ROWS:
            raise InvalidInput.at("", "too_many", f"At most {MAX_ROWS:,} labels at once; send them in parts.")
        rows.add(row, at)
    return rows


def _json_rows(raw: Any) -> Iterator[Mapping[str, Any]]:
    if not isinstance(raw, list) or not all(isinstance(row, Mapping) for row in raw):
        raise InvalidInput.at("/labels", "invalid", "labels must be a list of objects.")
    yield from raw


def _csv_rows(raw: bytes) -> Iterator[Mapping[str, Any]]:
    """Values are numbers, true, false or null where they read as such, else texts."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput.at("", "bad_csv", "The file is not UTF-8.") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        _check_columns(reader.fieldnames or ())
        for row in reader:
            value = row.get("value")
            yield {"request_id": row.get("request_id"), "at": row.get("at") or None, "value": _plain(value)}
    except csv.Error as error:
        raise InvalidInput.at("", "bad_csv", f"Line {reader.line_num} is no CSV: {error}.") from error


def _plain(value: str | None) -> Any:
    if value is None or value == "":
        return None
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError:
        return value
    return found if isinstance(found, int | float | bool) or found is None else value


def _parquet_rows(raw: bytes) -> Iterator[Mapping[str, Any]]:
    try:
        file = pq.ParquetFile(pa.BufferReader(raw))
        _check_columns(file.schema_arrow.names)
        if file.metadata.num_rows > MAX_ROWS:
            raise InvalidInput.at("", "too_many", f"At most {MAX_ROWS:,} labels at once; send them in parts.")
        names = [name for name in COLUMNS if name in file.schema_arrow.names]
        for batch in file.iter_batches(batch_size=10_000, columns=names):
            yield from _microseconds(batch).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise InvalidInput.at("", "bad_parquet", f"The file is no Parquet: {str(error).splitlines()[0]}") from error


def _microseconds(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Times in nanoseconds, which Python's own cannot hold, cut to microseconds."""
    place = batch.schema.get_field_index("at")
    if place < 0 or not pa.types.is_timestamp(batch.schema.field(place).type):
        return batch
    kind = batch.schema.field(place).type
    at = batch.column(place).cast(pa.timestamp("us", tz=kind.tz), safe=False)
    return batch.set_column(place, "at", at)


def _check_columns(names: Any) -> None:
    missing = [name for name in ("request_id", "value") if name not in names]
    if missing:
        raise InvalidInput.at(
            "",
            "missing_column",
            f"The column {missing[0]} is missing; there must be request_id and value, and at if known.",
        )


def label_of(row: Mapping[str, Any], at: datetime) -> NewLabel:
    """One row. ``at`` is now, and stands in where the row has no time. ValueError in words."""
    request_id = row.get("request_id")
    if not isinstance(request_id, str) or not 0 < len(request_id) <= 128 or "\x00" in request_id:
        raise ValueError("request_id must be a text of 1 to 128 characters")
    value = row.get("value")
    if value is None:
        raise ValueError("value is missing")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("value must be finite")
    try:
        text = packed(value)
    except ValueError as error:
        raise ValueError(f"value {error}") from error
    if len(text) > MAX_VALUE_BYTES:
        raise ValueError(f"value must be JSON of at most {MAX_VALUE_BYTES} bytes")
    return NewLabel(request_id, orjson.loads(text), _moment(row.get("at"), at))


def _moment(value: Any, default: datetime) -> datetime:
    if value is None:
        return default
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            value = _rfc3339(value)
    if isinstance(value, datetime):
        found = value if value.tzinfo else value.replace(tzinfo=UTC)
    elif isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 4_102_444_800:
        found = datetime.fromtimestamp(value, UTC)
    else:
        raise ValueError("at must be Unix seconds or RFC 3339")
    ahead = (found - default).total_seconds()
    if ahead > FUTURE_SECONDS:
        raise ValueError("at lies more than five minutes in the future")
    if ahead < -KEPT_SECONDS:
        raise ValueError("at is older than the 90 days for which labels are kept")
    return found


def _rfc3339(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError as error:
        raise ValueError("at must be Unix seconds or RFC 3339") from error
    if found.tzinfo is None:
        raise ValueError("at needs a time zone")
    return found
