"""The files of imported versions from a stock server that tells clients a path of its own disk: those of its runs and
logged models come along by the doors of its own pages, and any other version says why it stayed without."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from mlflow.tracking import MlflowClient

from apps.accounts.domain.roles import Role
from apps.audit.models import Event
from apps.kernel.actor import Actor
from apps.kernel.clock import now
from apps.kernel.models import OutboxEntry
from apps.registry.domain.importing import sources_line
from apps.registry.domain.words import Trust
from apps.registry.models import ImportedModel, ImportJob, ModelVersion
from apps.registry.selectors.imports import import_show
from apps.registry.services.importing import import_again, import_create, import_run, import_stop
from apps.registry.services.importing_artifacts import MAX_ATTEMPTS, import_artifacts, import_files_due
from tests.cast import make_user
from tests.registry.files import work
from tests.registry.stock import ada, stock_server, ways
from tests.registry.trees import make_artifact
from tests.web.conftest import _static_folder

__all__ = ["_static_folder", "ada", "ways"]
pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture(scope="module")
def stock(home: Path) -> Iterator[str]:
    """Three models: by a run, by a logged model, and a folder of the disk that belongs to neither."""
    with stock_server(home, keeps_on_disk=True) as address:
        client = MlflowClient(tracking_uri=address, registry_uri=address)
        run = client.create_run("0").info
        assert run.artifact_uri.startswith(str(home)), run.artifact_uri
        client.log_artifacts(run.run_id, str(make_artifact(home / "one")), "nested/model")
        client.create_registered_model("by-run")
        client.create_model_version("by-run", f"{run.artifact_uri}/nested/model", run.run_id)
        logged = client.create_logged_model("0", name="logged")
        client.log_model_artifacts(logged.model_id, str(make_artifact(home / "two", weights=b"two\n")))
        client.finalize_logged_model(logged.model_id, "READY")
        client.create_registered_model("logged")
        client.create_model_version("logged", f"models:/{logged.model_id}", model_id=logged.model_id)
        client.create_registered_model("by-hand")
        # Over REST a server takes such a path no more; older ones did, and it stays in their database.
        shelf = make_artifact(home / "shelf" / "three", weights=b"three\n")
        client.create_model_version("by-hand", "s3://bucket/three")
        with closing(sqlite3.connect(home / "mlflow.db")) as database, database:
            database.execute(
                "UPDATE model_versions SET source = ?1, storage_location = ?1 WHERE name = 'by-hand'", [str(shelf)]
            )
        client.create_model_version("by-hand", "s3://bucket/four")
        yield address


def trusts() -> dict[str, str]:
    rows = ModelVersion.objects.select_related("model").order_by("model__name", "number")
    return {f"{one.model.name}/{one.number}": one.trust for one in rows}


def test_what_the_server_reads_for_its_own_pages_comes_along_and_the_rest_says_why_not(
    stock: str, ada: Actor, home: Path
) -> None:
    job = import_create(actor=ada, url=stock, with_artifacts=True)
    work()
    job.refresh_from_db()
    assert (job.state, job.counts["skipped"]) == ("done", 0)
    assert trusts() == {
        "by-hand/1": Trust.UNVERIFIED, "by-hand/2": Trust.UNVERIFIED,
        "by-run/1": Trust.VERIFIED, "logged/1": Trust.VERIFIED,
    }  # fmt: skip
    files = import_show(job)["files"]
    assert (files["here"], files["waiting"], files["missing"]) == (2, 0, 2)
    assert [(one["model"], one["version"]) for one in files["left"]] == [("by-hand", "1"), ("by-hand", "2")]
    path = home / "shelf" / "three"
    assert f"{stock} keeps the files at {path}, a path on its own disk" in files["left"][0]["reason"]
    assert "s3://bucket/four, does not hand them out" in files["left"][1]["reason"]
    assert f"PILOTHOUSE_ARTIFACT_SOURCES={path.as_uri()},s3://bucket/four" in files["way_out"]

    carl = Client()
    carl.force_login(make_user("carl", frozenset({Role.ADMIN})))
    page = carl.get(f"/models/-/imports/{job.pk}/").content.decode()
    assert "done, but for some files" in page
    assert f"keeps the files at {path}, a path on its own disk" in page
    assert f"PILOTHOUSE_ARTIFACT_SOURCES={path.as_uri()}" in page
    assert "data-live-indicator" not in page
    version = carl.get("/models/by-hand/versions/1/").content.decode()
    assert f"keeps the files at {path}, a path on its own disk" in version
    assert "data-live-indicator" not in version, "nothing of it changes by itself"
    failed = Event.objects.filter(verb="version.ingest_failed").order_by("seq")
    assert [event.detail["code"] for event in failed] == ["import_files_left"] * 2


def test_the_line_of_the_page_and_a_second_run_bring_what_was_left(
    stock: str, ada: Actor, home: Path, settings: Any
) -> None:
    job = import_create(actor=ada, url=stock, with_artifacts=True)
    work()
    line = sources_line([str(home / "shelf" / "three")])
    settings.PILOTHOUSE_ARTIFACT_SOURCES = tuple(line.partition("=")[2].split(","))
    before = Event.objects.filter(verb="version.ingest_failed").count()
    import_again(actor=ada, job_id=job.pk)
    work()
    assert trusts()["by-hand/1"] == Trust.VERIFIED
    assert ModelVersion.objects.get(model__name="by-hand", number=1).status_message == ""
    assert import_show(ImportJob.objects.get())["files"]["missing"] == 1
    assert Event.objects.filter(verb="version.ingest_failed").count() == before, "the same reason is told once"


def test_a_folder_may_be_named_without_its_scheme(stock: str, ada: Actor, home: Path, settings: Any) -> None:
    settings.PILOTHOUSE_ARTIFACT_SOURCES = (str(home / "shelf"),)
    import_create(actor=ada, url=stock, with_artifacts=True)
    work()
    assert trusts()["by-hand/1"] == Trust.VERIFIED


def test_an_import_without_files_says_so_and_brings_them_when_it_is_asked(stock: str, ada: Actor) -> None:
    job = import_create(actor=ada, url=stock)
    work()
    job.refresh_from_db()
    told = import_show(job)["files"]
    assert (told["here"], told["missing"]) == (0, 4)
    assert {one["reason"] for one in told["left"]} == {"Its files were not asked for."}
    assert "bring the files along" in told["way_out"]
    import_again(actor=ada, job_id=job.pk, with_artifacts=True)
    work()
    assert trusts()["by-run/1"] == Trust.VERIFIED
    import_again(actor=ada, job_id=job.pk)
    assert ImportJob.objects.get().with_artifacts is True


def test_a_repetition_by_the_clock_does_not_ask_again_for_what_was_tried(stock: str, ada: Actor) -> None:
    job = import_create(actor=ada, url=stock, with_artifacts=True, sync_seconds=60)
    work()
    ImportJob.objects.update(due_at=now() - timedelta(seconds=1))
    import_run(job.pk)
    job.refresh_from_db()
    assert (job.run, ImportedModel.objects.filter(files_due_at__isnull=False).count()) == (2, 0)
    assert not OutboxEntry.objects.filter(name="registry.import_artifacts").exists()


def test_a_lost_doorbell_is_rung_again_by_the_clock(stock: str, ada: Actor) -> None:
    import_create(actor=ada, url=stock, with_artifacts=True)
    import_run(ImportJob.objects.get().pk)
    OutboxEntry.objects.all().delete()
    assert import_show(ImportJob.objects.get())["files"]["waiting"] == 4
    assert import_files_due() == 0, "its time has not come"
    ImportedModel.objects.update(files_due_at=now() - timedelta(seconds=1))
    assert import_files_due() == 3
    work()
    assert import_show(ImportJob.objects.get())["files"]["here"] == 2


def test_what_a_retry_may_cure_is_tried_again_and_given_up_with_its_reason(stock: str, ada: Actor, home: Path) -> None:
    """The server's own disk fails: it answers 500."""
    gone = home / "gone"
    root = home / "root"
    job = import_create(actor=ada, url=stock, with_artifacts=True)
    import_run(job.pk)
    OutboxEntry.objects.all().delete()
    shutil.move(root, gone)
    try:
        for attempt in range(MAX_ATTEMPTS):
            import_artifacts(job_id=job.pk, remote_name="by-run")
            known = ImportedModel.objects.get(remote_name="by-run")
            assert known.files_attempts == attempt + 1
            if known.files_due_at is None:
                break
    finally:
        shutil.move(gone, root)
    assert known.files_due_at is None
    assert list(known.files_left) == ["1"]
    assert ModelVersion.objects.get(model__name="by-run").status_message
    assert import_artifacts(job_id=job.pk, remote_name="by-run") == 0, "a late doorbell changes nothing"
    import_again(actor=ada, job_id=job.pk)
    work()
    assert trusts()["by-run/1"] == Trust.VERIFIED


def test_a_stopped_import_brings_no_more_files(stock: str, ada: Actor) -> None:
    job = import_create(actor=ada, url=stock, with_artifacts=True)
    import_run(job.pk)
    import_stop(actor=ada, job_id=job.pk)
    work()
    assert set(trusts().values()) == {Trust.UNVERIFIED}


@pytest.mark.parametrize(
    ("places", "line"),
    [
        ([], ""),
        (["/"], ""),
        (["https://elsewhere/x", "dbfs:/x", "models:/m-1"], ""),
        (["/srv/runs/1/a", "file:///srv/runs/2"], "PILOTHOUSE_ARTIFACT_SOURCES=file:///srv/runs"),
        (["/srv/my runs/1"], "PILOTHOUSE_ARTIFACT_SOURCES=file:///srv/my%20runs/1"),
        (["/srv/runs/../other"], "PILOTHOUSE_ARTIFACT_SOURCES=file:///srv/other"),
        (["s3://b/x/1", "s3://b/x/2", "gs://c"], "PILOTHOUSE_ARTIFACT_SOURCES=gs://c,s3://b/x"),
    ],
)
def test_the_line_names_no_more_than_what_holds_the_places(places: list[str], line: str) -> None:
    assert sources_line(places) == line
