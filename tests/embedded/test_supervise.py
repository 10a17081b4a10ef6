"""The supervisor keeps programs running, and stops them in order and nothing else."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from embedded import supervise
from embedded.processes import is_alive
from embedded.programs import Program
from embedded.supervise import Supervisor, leftover

SLEEP = (sys.executable, "-c", "import time; time.sleep(600)")
STUBBORN = (
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)",
)


def make(home: Path, said: list[str]) -> Supervisor:
    return Supervisor(home, home, dict(os.environ), said.append)


def until(condition: Callable[[], object], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def supervisor(tmp_path: Path, said: list[str]) -> Iterator[Supervisor]:
    supervisor = make(tmp_path, said)
    yield supervisor
    supervisor.kill_all()


def test_the_log_of_a_program_that_runs_for_months_is_cut(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise, "LOG_SECONDS", 0.0)
    monkeypatch.setattr(supervise, "LOG_BYTES", 5_000)
    talker = "import time\nfor n in range(10**9): print(n, 'x' * 90, flush=True); time.sleep(0.001)"
    program = Program("talker", (sys.executable, "-c", talker))
    supervisor.start(program)
    log = supervisor.log(program)
    older = log.with_suffix(".log.1")

    def said_much() -> bool:
        supervisor.tick()
        return older.exists() and older.stat().st_size > 5_000 and log.stat().st_size > 0

    assert until(said_much)
    assert is_alive(supervisor.children["talker"].process)
    last = int(older.read_text().splitlines()[-2].split()[0])
    assert until(lambda: log.stat().st_size > 1_000)
    lines = log.read_text().splitlines()
    assert lines[0].isprintable()  # it appends: no hole of zeros where the cut-off lines were
    assert int(lines[-2].split()[0]) > last


def test_a_killed_child_is_started_again_after_a_pause(
    supervisor: Supervisor, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise, "FIRST_BACKOFF", 0.1)
    supervisor.start(Program("one", SLEEP))
    child = supervisor.children["one"]
    child.backoff = 0.1
    first = child.process
    first.kill()
    assert until(lambda: not is_alive(first))

    def ticked() -> bool:
        supervisor.tick()
        return child.restarts == 1

    assert until(ticked)
    assert is_alive(child.process)
    assert child.process.pid != first.pid
    assert any("one ended; starting it again" in line for line in said)


def test_a_child_that_keeps_ending_is_started_ever_more_slowly(supervisor: Supervisor) -> None:
    supervisor.start(Program("ends", (sys.executable, "-c", "raise SystemExit(1)")))
    child = supervisor.children["ends"]
    pauses = []
    for _ in range(7):
        process = child.process
        assert until(lambda process=process: not is_alive(process))  # type: ignore[misc]
        pauses.append(child.backoff)
        supervisor.tick()
        child.retry_at = 0.0  # the pause is over
        supervisor.tick()
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_children_are_stopped_in_reverse_order_and_nothing_else_is(supervisor: Supervisor, said: list[str]) -> None:
    bystander = psutil.Popen(SLEEP, start_new_session=True)
    try:
        for name in ("first", "second", "third"):
            supervisor.start(Program(name, SLEEP))
        supervisor.stop_all()
        assert said == ["third stopped", "second stopped", "first stopped"]
        assert bystander.is_running()
    finally:
        bystander.kill()
        bystander.wait()


def test_those_of_one_stage_stop_at_the_same_time_between_those_after_and_before(
    supervisor: Supervisor, said: list[str], tmp_path: Path
) -> None:
    """Each of the stage ends only when both of it were asked: one after the other they would wait for their ends."""
    script = """
import pathlib, signal, sys, time
name, others = sys.argv[1], [pathlib.Path(path) for path in sys.argv[2:]]
def asked(*_):
    pathlib.Path(name).touch()
    while not all(path.exists() for path in others):
        time.sleep(0.01)
    sys.exit(0)
signal.signal(signal.SIGTERM, asked)
print("up", flush=True)
time.sleep(600)
"""
    paths = {name: str(tmp_path / f"{name}.asked") for name in ("web", "worker")}
    supervisor.start(Program("agent", SLEEP))
    for name, path in paths.items():
        command = (sys.executable, "-c", script, path, *paths.values())
        supervisor.start(Program(name, command, stage="control plane"))
    supervisor.start(Program("traffic", SLEEP))
    for name in paths:
        program = supervisor.children[name].program
        assert until(lambda program=program: "up" in supervisor.log(program).read_text())  # type: ignore[misc]
    supervisor.stop_all()
    assert said == ["traffic stopped", "worker stopped", "web stopped", "agent stopped"]


def test_a_child_that_ignores_sigterm_is_killed_and_that_is_said(supervisor: Supervisor, said: list[str]) -> None:
    program = Program("deaf", STUBBORN, stop_seconds=0.3)
    supervisor.start(program)
    assert until(lambda: "deaf" in supervisor.log(program).read_text())
    process = supervisor.children["deaf"].process
    supervisor.stop_all()
    assert not is_alive(process)
    assert said == ["deaf did not stop in time and was killed"]


def test_children_do_not_get_the_terminals_interrupt(supervisor: Supervisor) -> None:
    supervisor.start(Program("one", SLEEP))
    pid = supervisor.children["one"].process.pid
    assert os.getsid(pid) == pid


@pytest.mark.parametrize("is_adopted", [True, False])
def test_what_a_killed_launcher_left_is_adopted_or_replaced(tmp_path: Path, is_adopted: bool) -> None:
    program = Program("agent", SLEEP, is_adopted=is_adopted)
    dead = make(tmp_path, [])
    dead.start(program)
    left = dead.children["agent"].process
    assert until(lambda: tuple(left.cmdline()) == SLEEP)  # for a moment after the start the system knows no arguments
    successor = make(tmp_path, [])
    try:
        assert leftover(tmp_path, "agent") == left
        successor.start(program)
        assert (successor.children["agent"].process == left) is is_adopted
        assert is_alive(left) is is_adopted
    finally:
        successor.kill_all()
        dead.kill_all()


def test_a_reused_pid_is_not_taken_for_the_child_that_had_it(tmp_path: Path, supervisor: Supervisor) -> None:
    supervisor.start(Program("one", SLEEP))
    record = tmp_path / "run" / "one.json"
    record.write_text(f'{{"pid": {os.getpid()}, "started": 1.0}}')
    assert leftover(tmp_path, "one") is None


def test_setting_the_clock_does_not_make_a_child_a_stranger(
    tmp_path: Path, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor.start(Program("one", SLEEP))
    at_first = psutil.boot_time()
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: at_first + 3600)
    assert leftover(tmp_path, "one") == supervisor.children["one"].process


def test_sigterm_reaches_the_whole_tree(supervisor: Supervisor) -> None:
    script = f"import subprocess, sys; subprocess.run({list(SLEEP)!r})"
    supervisor.start(Program("parent", (sys.executable, "-c", script), stop_seconds=0.5))
    process = supervisor.children["parent"].process
    assert until(process.children)
    child = process.children()[0]
    supervisor.stop_all()
    assert until(lambda: not is_alive(child))
