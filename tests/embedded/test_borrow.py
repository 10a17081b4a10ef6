"""Chores beside a running product find its variables; without one they say in a sentence what to do."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from embedded.borrow import borrow_environment
from embedded.errors import LaunchError
from embedded.processes import ProcessRef
from embedded.settings import ROOT
from embedded.state import MARKER

BARE = {"PATH": os.environ["PATH"]}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / MARKER).touch()
    (tmp_path / "run").mkdir()
    return tmp_path


@pytest.fixture
def web(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that stands where the web process does, with variables of its own."""
    named = {"DATABASE_URL": "postgresql://x@127.0.0.1:1/x", "PILOTHOUSE_WEB_PORT": "9", "PILOTHOUSE_HOME": str(home)}
    env = {**BARE, **named, "SOMETHING_ELSE": "1"}
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], env=env, stdin=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not psutil.Process(process.pid).environ():  # empty until the new program has been put in place of the fork
        assert time.monotonic() < deadline
    reference = ProcessRef.of(process.pid)
    assert reference is not None
    reference.write(home / "run" / "web.json")
    yield process
    assert process.stdin is not None
    process.stdin.close()
    process.wait(30)


def run(*command: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        env={**BARE, **env},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_variables_of_the_running_product_are_borrowed_and_ones_own_stay(
    home: Path, web: subprocess.Popen[bytes]
) -> None:
    own = {"PILOTHOUSE_HOME": str(home), "PILOTHOUSE_WEB_PORT": "10"}
    borrow_environment(own)
    assert own == {
        "PILOTHOUSE_HOME": str(home), "PILOTHOUSE_WEB_PORT": "10", "DATABASE_URL": "postgresql://x@127.0.0.1:1/x",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["DATABASE_URL", "DATABASE_URL_FILE"])
def test_whoever_names_a_database_is_left_alone(name: str) -> None:
    own = {name: "x", "PILOTHOUSE_HOME": "/nowhere"}
    borrow_environment(own)
    assert own == {name: "x", "PILOTHOUSE_HOME": "/nowhere"}


def test_a_product_that_was_stopped_is_named_with_the_way_out(home: Path) -> None:
    with pytest.raises(LaunchError, match=r"does not run in .* start it with `make up`"):
        borrow_environment({"PILOTHOUSE_HOME": str(home)})


@pytest.mark.parametrize("command", [("manage.py", "setup_link"), ("-m", "cli.main", "admin", "setup-link")])
def test_a_chore_without_a_product_is_one_sentence_and_no_traceback(command: tuple[str, ...], tmp_path: Path) -> None:
    done = run(*command, PILOTHOUSE_HOME=str(tmp_path))
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
    assert "start it with `make up` and repeat this" in done.stderr


def test_a_variable_that_is_missing_on_a_server_is_one_sentence_too() -> None:
    done = run("manage.py", "audit_keys", DATABASE_URL="postgresql://x@127.0.0.1:1/x")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "REDIS_URL is not set." in done.stderr
