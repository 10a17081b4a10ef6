"""Labels out of rows, CSV and Parquet: each row is taken or told why not; a rehearsal changes nothing."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from apps.audit.models import Event
from apps.kernel.errors import Forbidden, InvalidInput
from apps.telemetry.domain.labels import MAX_BYTES, labels_from
from apps.telemetry.models import Label
from apps.telemetry.services.labels import labels_upload
from tests.cast import make_actor
from tests.fakes.targets import ALICE, make_site
from tests.telemetry.test_inference_log import sampled

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
CSV = b"""request_id,value,at
r1,1,2026-01-05T10:00:00Z
r2,late,1767600000
,1,
r3,,
r4,true,yesterday
r5,0.5,
r1,0,
"""


def parquet(**columns: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def test_a_csv_gives_its_good_rows_and_the_reason_of_every_other() -> None:
    rows = labels_from("csv", CSV, at=NOW)
    assert {key: label.value for key, label in rows.taken.items()} == {"r1": 0, "r2": "late", "r5": 0.5}
    assert (rows.received, rows.rejected_count, rows.repeated) == (7, 3, 1)
    assert [row["index"] for row in rows.rejected] == [2, 3, 4]
    assert "at" in rows.rejected[2]["detail"]
    assert rows.taken["r2"].at == datetime.fromtimestamp(1767600000, UTC)
    assert rows.taken["r5"].at == NOW


def test_parquet_says_the_same_with_its_own_types() -> None:
    raw = parquet(request_id=["r1", "r2", None], value=[1.5, float("nan"), 2.0], at=[NOW, NOW, NOW])
    rows = labels_from("parquet", raw, at=NOW)
    assert {key: (label.value, label.at) for key, label in rows.taken.items()} == {"r1": (1.5, NOW)}
    assert rows.rejected_count == 2


@pytest.mark.parametrize(
    ("form", "raw", "words"),
    [
        ("xml", b"", "json, csv or parquet"),
        ("json", {"a": 1}, "list of objects"),
        ("csv", b"id,truth\n1,2\n", "request_id"),
        ("csv", b"", "request_id"),
        ("csv", b"\xff\xfe\x00", "UTF-8"),
        ("csv", b'request_id,value\n"r1', "line"),
        ("csv", b" " * (MAX_BYTES + 1), "at most"),
        ("parquet", b"PAR1 nonsense", "no Parquet"),
        ("parquet", parquet(request_id=["r1"]), "value"),
        ("parquet", parquet(request_id=["r"] * 200_001, value=[1] * 200_001), "200,000"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_whole(form: str, raw: Any, words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        labels_from(form, raw, at=NOW)
    assert words.lower() in caught.value.detail.lower()


@pytest.mark.django_db
def test_a_rehearsal_says_what_would_happen_and_the_upload_does_it() -> None:
    site = make_site()
    sampled(3)
    raw = [{"request_id": f"r{number}", "value": 1} for number in range(5)] + [{"request_id": "x"}]
    given: dict[str, Any] = {"actor": ALICE, "endpoint_id": site.endpoint.pk, "form": "json", "raw": raw}
    rehearsed = labels_upload(**given, is_dry_run=True)
    assert (rehearsed.accepted, rehearsed.rejected_count, rehearsed.matched, rehearsed.replaced) == (5, 1, 3, 0)
    assert not Label.objects.exists()
    done = labels_upload(**given)
    assert (done.accepted, Label.objects.count()) == (5, 5)
    assert labels_upload(**given).replaced == 5
    assert Event.objects.filter(verb="labels.uploaded").count() == 2
    with pytest.raises(Forbidden):
        labels_upload(**{**given, "actor": make_actor("bob")})
