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
    assert Model.objects.count() == 50
    assert Alias.objects.filter(name="champion").exists()
    again = run(ada, f"{stock}/", "-o", "json")
    assert again.returncode == 0, again.stderr
    assert (json.loads(again.stdout)["id"], json.loads(again.stdout)["counts"]["written"]) == (job["id"], 0)
    assert "was imported from before" in again.stderr


def test_what_ends_otherwise_has_its_own_exit_code(stock: str, program: Program) -> None:
    ada = program("ada")
    started = ada("import", stock, "--no-wait", "-o", "json")
    assert (started.returncode, json.loads(started.stdout)["state"]) == (0, "waiting")
    assert not Model.objects.exists()
    late = ada("import", stock, "--timeout", "0")  # it waits in the outbox: nobody works
    assert late.returncode == 5, late.stderr
    assert "it goes on" in late.stderr
    failed = run(ada, "http://127.0.0.2:80", PILOTHOUSE_IMPORT_CREDENTIAL="s3cret-canary")
    assert failed.returncode == 1
    assert "PILOTHOUSE_OUTBOUND_ALLOW" in failed.stderr
    assert "s3cret" not in failed.stdout + failed.stderr
    assert ImportJob.objects.count() == 2
    assert program("bob")("import", "https://mlflow.example.com").returncode == 6
    assert ada("import", "file:///etc").returncode == 2
    nobody = ada("import", "https://mlflow.example.com", "--team", "nobody")
    assert nobody.returncode == 2
    assert "/team" in nobody.stderr
