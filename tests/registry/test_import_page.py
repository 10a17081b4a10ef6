"""From the page to the rows by the product's own processes: begun by a form, worked on by a Celery worker that is
killed on the way, taken up by the next one, and repeated without writing anything."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from mlflow.tracking import MlflowClient

from apps.accounts.domain.roles import Role
from apps.registry.models import Alias, ImportJob, Model, ModelVersion
from tests.cast import make_user
from tests.registry.stock import stock_server
from tests.web.conftest import _static_folder
from tests.worker.support import eventually, running

__all__ = ["_static_folder"]
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(1200)]
HERE = "/models/-/imports/"
MODELS, PATIENCE = 40, 240
WORKER = ("-m", "celery", "-A", "worker.app", "worker", "-Q", "rollouts,telemetry,analysis", "-c", "1")
BEAT = ("-m", "celery", "-A", "worker.app", "beat")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with stock_server(tmp_path_factory.mktemp("mlflow")) as address:
        client = MlflowClient(tracking_uri=address, registry_uri=address)
        for number in range(MODELS):
            name = f"fare-{number:02}"
            client.create_registered_model(name, {"team": "fares"}, f"The {number}th.")
            client.create_model_version(name, f"s3://fares/{number}", tags={"n": str(number)}, await_creation_for=0)
        client.create_model_version("fare-00", "s3://fares/again", await_creation_for=0)
        client.set_registered_model_alias("fare-00", "champion", "2")
        yield address


def shown(ada: Client, job: ImportJob) -> tuple[str, dict[str, int]]:
    """The state and the counts as the progress on the page says them."""
    html = ada.get(f"{HERE}{job.pk}/progress/").content.decode()
    counts = re.findall(r"<dt>([\w ]+)</dt><dd>([\d,]+)</dd>", html)
    state = re.search(r"about to begin|running|done|failed|stopped", html)
    assert state is not None, html
    return state.group(), {name: int(number.replace(",", "")) for name, number in counts}


@pytest.mark.slow
def test_an_import_begun_on_the_page_survives_its_worker_and_a_second_run_writes_nothing(
    theirs: str, tmp_path: Path, settings: Any
) -> None:
    settings.PILOTHOUSE_HOME = tmp_path
    inside = {"PILOTHOUSE_OUTBOUND_ALLOW": theirs.removeprefix("http://"), "PILOTHOUSE_HOME": str(tmp_path)}
    ada = Client()
    ada.force_login(make_user("ada", frozenset({Role.ADMIN})))
    with ExitStack() as programs:
        programs.enter_context(running("-m", "worker.observer", log=tmp_path / "observer.log", **inside))
        programs.enter_context(running(*BEAT, "-s", str(tmp_path / "beat"), log=tmp_path / "beat.log", **inside))
        worker = programs.enter_context(running(*WORKER, log=tmp_path / "worker.log", **inside))

        # The workers know of one inner address, the pages of two: what is allowed is read when a process starts.
        settings.PILOTHOUSE_OUTBOUND_ALLOW = (theirs.removeprefix("http://"), "127.0.0.1:9")
        for address in (theirs, "http://127.0.0.1:9"):
            assert ada.post(HERE, {"url": address, "rhythm": "0"}).status_code == 302
        job, refused = (ImportJob.objects.get(url=one) for one in (theirs, "http://127.0.0.1:9"))
        eventually(Model.objects.exists, seconds=PATIENCE)
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
        assert Model.objects.count() < MODELS, "it was over before the worker could be killed"
        state, counts = shown(ada, job)
        assert (state, counts["Models"] <= Model.objects.count()) == ("running", True)

        programs.enter_context(running(*WORKER, log=tmp_path / "worker.log", **inside))
        eventually(lambda: shown(ada, job)[0] == "done", seconds=PATIENCE)
        told = {"Models": MODELS, "Versions": MODELS + 1, "Files here": 0, "Files missing": MODELS + 1}
        assert shown(ada, job)[1] == told
        assert f"{counts_of(job)} entries" in ada.get(f"{HERE}{job.pk}/").content.decode()
        assert (Model.objects.count(), ModelVersion.objects.count()) == (MODELS, MODELS + 1)
        assert Alias.objects.get().version.number == 2
        eventually(lambda: shown(ada, refused)[0] == "failed", seconds=PATIENCE)
        assert "PILOTHOUSE_OUTBOUND_ALLOW" in ada.get(f"{HERE}{refused.pk}/").content.decode()

        changed = dict(Model.objects.values_list("pk", "updated_at"))
        assert ada.post(f"{HERE}{job.pk}/again/", {"rhythm": "0"}).status_code == 302
        eventually(lambda: ImportJob.objects.filter(pk=job.pk, run=2, state="done").exists(), seconds=PATIENCE)
        assert shown(ada, job)[1] == told
        assert counts_of(job) == 0
        assert "Nothing differed" in ada.get(f"{HERE}{job.pk}/").content.decode()
        assert dict(Model.objects.values_list("pk", "updated_at")) == changed


def counts_of(job: ImportJob) -> int:
    job.refresh_from_db()
    return int(job.counts["written"])
