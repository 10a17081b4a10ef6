"""`pilothouse import URL`, the real program, from a real stock ``mlflow server``; the worker's part runs here."""

from __future__ import annotations

import json
import subprocess

import pytest

from apps.registry.models import Alias, ImportJob, Model
from tests.cli.conftest import Pilothouse, Program, program
from tests.registry.files import beside_a_worker
from tests.registry.test_importing import stock, ways

__all__ = ["program", "stock", "ways"]
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]


def run(ada: Pilothouse, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The program to its end, with a worker beside it."""
    with ada.start("import", *arguments, **env) as process:
        out, err = beside_a_worker(process)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def test_a_server_is_copied_with_its_progress_told_and_a_second_time_nothing_is_written(
    stock: str, program: Program
) -> None:
    ada = program("ada")
    first = run(ada, stock, "-o", "json")
    assert first.returncode == 0, first.stderr
    job = json.loads(first.stdout)
    assert (job["state"], job["counts"]["models"], job["team"]) == ("done", 50, "default")
    assert "done: 50 models" in first.stderr
    assert (job["files"]["here"], job["files"]["waiting"], job["files"]["missing"]) == (3, 0, 8 * 3)
    assert Model.objects.count() == 50
    assert Alias.objects.filter(name="champion").exists()
    again = run(ada, f"{stock}/", "-o", "json")
    assert again.returncode == 0, again.stderr
    assert (json.loads(again.stdout)["id"], json.loads(again.stdout)["counts"]["written"]) == (job["id"], 0)
    assert "was imported from before" in again.stderr


def test_versions_that_stay_without_files_are_named_at_the_end_with_the_way_out(stock: str, program: Program) -> None:
    ended = run(program("ada"), stock)
    assert ended.returncode == 0, ended.stderr
    assert "model-01 1 is here without its files: " in ended.stderr
    assert "s3://bucket/0, does not hand them out" in ended.stderr
    assert "PILOTHOUSE_ARTIFACT_SOURCES=s3://bucket " in ended.stderr
    bare = run(program("ada"), stock, "--without-artifacts", "-o", "json")
    assert json.loads(bare.stdout)["with_artifacts"] is False


def test_what_ends_otherwise_has_its_own_exit_code(stock: str, program: Program) -> None:
    ada = program("ada")
    started = ada("import", stock, "--no-wait", "-o", "json")
    assert (started.returncode, json.loads(started.stdout)["state"]) == (0, "waiting")
    assert not Model.objects.exists()
    late = ada("import", stock, "--timeout", "0")  # it waits in the outbox: nobody works
    assert late.returncode == 5, late.stderr
    assert "it goes on" in late.stderr
    inside = run(ada, "http://127.0.0.2:80", PILOTHOUSE_IMPORT_CREDENTIAL="s3cret-canary")
    assert inside.returncode == 2
    assert "PILOTHOUSE_OUTBOUND_ALLOW=…,127.0.0.2:80" in inside.stderr
    assert ImportJob.objects.count() == 1
    failed = run(ada, f"{stock}/no-mlflow-there", PILOTHOUSE_IMPORT_CREDENTIAL="s3cret-canary")
    assert failed.returncode == 1, failed.stderr
    assert "answered 404" in failed.stderr
    assert "s3cret" not in inside.stdout + inside.stderr + failed.stdout + failed.stderr
    assert ImportJob.objects.count() == 2
    assert program("bob")("import", "https://mlflow.example.com").returncode == 6
    assert ada("import", "file:///etc").returncode == 2
    nobody = ada("import", "https://mlflow.example.com", "--team", "nobody")
    assert nobody.returncode == 2
    assert "/team" in nobody.stderr
