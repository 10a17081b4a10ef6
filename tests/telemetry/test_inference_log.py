"""The inference log: what is written stands in one file, once, whatever dies in between; redacted; forgotten."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import time_machine
from django.db import OperationalError

from apps.audit.models import Event
from apps.kernel.errors import Conflict, Forbidden, InvalidInput
from apps.telemetry.domain.parquet import table_of
from apps.telemetry.drivers.files import Damaged, InferenceFiles, folder_of
from apps.telemetry.models import InferenceFile, InferenceSample
from apps.telemetry.selectors import sample_pairs
from apps.telemetry.services import inference_log
from apps.telemetry.services.inference_log import inference_log_prune, inference_log_write, inference_read
from apps.telemetry.services.policies import policy_of, policy_set
from apps.telemetry.services.records import samples_add
from tests.cast import make_actor
from tests.fakes.targets import ALICE, make_site

pytestmark = pytest.mark.django_db
NOW = datetime.now(UTC)
ALWAYS = {"since": NOW - timedelta(days=1), "until": NOW + timedelta(days=1)}


@pytest.fixture(autouse=True)
def folder(settings: Any, tmp_path: Path) -> Path:
    settings.PILOTHOUSE_INFERENCE_LOG = str(tmp_path / "log")
    return tmp_path / "log"


@pytest.fixture(autouse=True)
def _clock() -> Iterator[None]:
    """Each test begins at NOW, however long ago this module was imported: samples of five minutes are due to a file."""
    with time_machine.travel(NOW, tick=True):
        yield


def sampled(count: int, variant: str = "v1-0-0", route: str = "weighted", first: int = 0, **more: Any) -> None:
    rows = [
        {"request_id": f"r{number}", "at": NOW.timestamp() - 60 + number / 1000, "route": route, "period": 1,
         "inputs": {"hour": [7, 8], "carrier": ["AA", None]}, "outputs": [0, 1], "latency_s": 0.01,
         "status": 200, **more}
        for number in range(first, first + count)
    ]  # fmt: skip
    accepted, rejected = samples_add({"endpoint": "late-arrival", "variant": variant, "samples": rows})
    assert (accepted, rejected) == (count, [])


def test_samples_stand_in_a_file_once_with_a_row_that_says_what_is_in_it(folder: Path) -> None:
    sampled(30)
    assert inference_log_write() == 0  # neither old nor many
    assert inference_log_write(is_everything=True) == 1
    assert inference_log_write(is_everything=True) == 0
    row = InferenceFile.objects.get()
    table = pq.read_table(folder / row.path)
    assert (row.requests, row.rows, table.num_rows, row.size_bytes) == (30, 60, 60, (folder / row.path).stat().st_size)
    assert table.column("in.hour").to_pylist()[:2] == [7, 8]
    assert table.column("in.carrier").to_pylist()[:2] == ["AA", None]
    assert table.column("output").to_pylist()[:2] == [0, 1]
    assert sorted(table.schema.names)[:3] == ["at", "in.carrier", "in.hour"]
    assert not list(folder.rglob(".part-*"))
    read = inference_read("late-arrival", "v1-0-0", **ALWAYS)
    assert read.equals(table)
    middle = NOW - timedelta(seconds=60) + timedelta(milliseconds=10)
    part = inference_read("late-arrival", "v1-0-0", since=middle, until=ALWAYS["until"])
    assert part.num_rows == 40
    assert inference_read("late-arrival", "v1-0-0", since=NOW, until=NOW + timedelta(days=1)).num_rows == 0


def test_experiments_go_on_reading_samples_after_they_were_logged() -> None:
    sampled(5)
    sampled(5, "v1-1-0", "mirrored")
    inference_log_write(is_everything=True)
    assert len(sample_pairs("late-arrival", "v1-0-0", "v1-1-0", **ALWAYS)) == 5
    assert InferenceFile.objects.count() == 2


def test_a_crash_between_file_and_row_loses_nothing_and_leaves_only_what_the_sweep_removes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampled(4)

    def dies(*args: Any, **kwargs: Any) -> Any:
        raise OperationalError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(InferenceFile, "save", dies)
        with pytest.raises(OperationalError):
            inference_log_write(is_everything=True)
    assert InferenceSample.objects.filter(is_logged=False).count() == 4
    (orphan,) = folder.rglob("*.parquet")
    sampled(1, first=10)
    assert inference_log_write(is_everything=True) == 1
    assert inference_read("late-arrival", "v1-0-0", **ALWAYS).num_rows == 10
    assert inference_log_prune()["swept"] == 0  # young: somebody may be about to write its row
    old = time.time() - 7200
    for path in folder.rglob("*.parquet"):
        os.utime(path, (old, old))
    assert inference_log_prune()["swept"] == 1
    assert not orphan.exists()
    assert inference_read("late-arrival", "v1-0-0", **ALWAYS).num_rows == 10


def test_two_writers_at_once_make_one_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sampled(6)
    real = InferenceFiles.write

    def slow(self: InferenceFiles, *args: Any) -> Any:
        found = real(self, *args)
        monkeypatch.setattr(InferenceFiles, "write", real)
        assert inference_log_write(is_everything=True) == 1  # the other one is quicker
        return found

    monkeypatch.setattr(InferenceFiles, "write", slow)
    assert inference_log_write(is_everything=True) == 0
    assert InferenceFile.objects.count() == 1
    assert inference_read("late-arrival", "v1-0-0", **ALWAYS).num_rows == 12


def test_a_damaged_or_missing_file_is_an_error_and_no_gap(folder: Path) -> None:
    sampled(3)
    inference_log_write(is_everything=True)
    path = folder / InferenceFile.objects.get().path
    raw = path.read_bytes()
    path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(Damaged, match="not what was written"):
        inference_read("late-arrival", "v1-0-0", **ALWAYS)
    path.unlink()
    with pytest.raises(Damaged, match="gone"):
        inference_read("late-arrival", "v1-0-0", **ALWAYS)


def test_files_whose_types_differ_are_read_as_one_table() -> None:
    sampled(2)
    inference_log_write(is_everything=True)
    sampled(2, first=10, inputs={"hour": [7.5, 8.5], "gate": ["B1", "B2"]}, outputs=["late", "on time"])
    inference_log_write(is_everything=True)
    table = inference_read("late-arrival", "v1-0-0", **ALWAYS)
    assert table.column("in.hour").to_pylist() == [7.0, 8.0, 7.0, 8.0, 7.5, 8.5, 7.5, 8.5]
    assert table.column("output").to_pylist()[3:5] == ["1", "late"]
    assert table.column("in.gate").to_pylist()[:5] == [None] * 4 + ["B1"]


def test_features_are_hashed_and_dropped_before_anything_is_stored() -> None:
    site = make_site()
    policy_set(
        actor=ALICE, endpoint_id=site.endpoint.pk, retention_days=30, default="keep",
        redaction={"carrier": "hash", "hour": "drop"},
    )  # fmt: skip
    sampled(2)
    first, second = (row.inputs for row in InferenceSample.objects.all())
    assert "hour" not in first
    assert first["carrier"] == second["carrier"]
    assert (len(first["carrier"][0]), first["carrier"][1]) == (16, None)
    assert first["carrier"][0] != "AA"
    event = Event.objects.get(verb="inference_log.policy_changed")
    assert event.detail["after"]["redaction"] == {"carrier": "hash", "hour": "drop"}
    assert event.detail["before"]["retention_days"] == 90


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"retention_days": 0}, "/retention_days"),
        ({"default": "burn"}, "/default"),
        ({"redaction": {"hour": "burn"}}, "/redaction/hour"),
    ],
)
def test_a_policy_that_means_nothing_is_refused(change: dict[str, Any], field: str) -> None:
    site = make_site()
    given = {"retention_days": 30, "default": "keep", "redaction": {}, **change}
    with pytest.raises(InvalidInput) as caught:
        policy_set(actor=ALICE, endpoint_id=site.endpoint.pk, **given)
    assert caught.value.fields[0].pointer == field
    assert policy_of("late-arrival").revision == 0


def test_a_stale_click_and_a_viewer_change_nothing() -> None:
    site = make_site()
    given: dict[str, Any] = {"endpoint_id": site.endpoint.pk, "retention_days": 30, "default": "keep", "redaction": {}}
    seen = policy_set(actor=ALICE, **given).revision
    policy_set(actor=ALICE, **given, revision=seen)
    with pytest.raises(Conflict):
        policy_set(actor=ALICE, **given, revision=seen)
    with pytest.raises(Forbidden):
        policy_set(actor=make_actor("bob"), **given)


def test_what_is_past_its_retention_goes_row_file_and_sample(folder: Path) -> None:
    site = make_site()
    sampled(2, at=(NOW - timedelta(days=3)).timestamp())
    inference_log_write()
    assert len(list(folder.rglob("*.parquet"))) == 1
    inference_log_prune()
    assert InferenceFile.objects.count() == 1
    policy_set(actor=ALICE, endpoint_id=site.endpoint.pk, retention_days=2, default="keep", redaction={})
    assert inference_log_prune()["files"] == 1
    assert (InferenceFile.objects.count(), InferenceSample.objects.count()) == (0, 0)
    assert list(folder.rglob("*.parquet")) == []


def test_any_fsspec_url_will_do(settings: Any) -> None:
    settings.PILOTHOUSE_INFERENCE_LOG = "memory://inference-log"
    sampled(3)
    assert inference_log_write(is_everything=True) == 1
    assert inference_read("late-arrival", "v1-0-0", **ALWAYS).num_rows == 6
    assert inference_log.inference_files().sweep(set()) == 0  # a bucket may be shared


def test_a_name_from_the_data_plane_is_no_way_out_of_the_folder() -> None:
    for name in ("../../etc", "a/b", "..", "", ".hidden", "a\x00b"):
        folder = folder_of(name, "v1", "2026-01-01")
        assert folder.startswith("x-")
        assert folder.count("/") == 2
    assert folder_of("late-arrival", "v1.0", "2026-01-01") == "late-arrival/v1.0/2026-01-01"


def test_payloads_that_are_no_table_are_kept_as_they_are() -> None:
    at = NOW
    sample = {"request_id": "r", "at": at, "variant": "v", "route": "weighted", "period": 0, "status": None,
              "latency_s": None, "inputs": {"a": [1, 2], "b": 3}, "outputs": [{"score": 0.5, "why": ["x"]}],
              }  # fmt: skip
    table = table_of([sample])
    assert table.num_rows == 1
    assert table.column("in.a").to_pylist() == ["[1,2]"]
    assert table.column("out.why").to_pylist() == ['["x"]']
    assert table.column("out.score").to_pylist() == [0.5]
