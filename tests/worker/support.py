"""Patience, and programs of the product as real processes on the test session's own database."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit

from django.db import connection

ROOT = Path(__file__).resolve().parents[2]
T = TypeVar("T")


def eventually(look: Callable[[], T], *, seconds: float = 45.0) -> T:
    """The first truthy answer of ``look``; AssertionError when none comes."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"it did not happen within {seconds:g} s: {look}")
        time.sleep(0.05)
    return found


def while_running(process: subprocess.Popen[bytes], look: Callable[[], T]) -> Callable[[], T]:
    """``look``, but a process that has ended is an error at once."""

    def check() -> T:
        assert process.poll() is None, f"the process ended with {process.returncode}"
        return look()

    return check


def environment(**changes: str) -> dict[str, str]:
    """What a process needs to use this session's *test* database and Valkey."""
    parts = urlsplit(os.environ["DATABASE_URL"])
    name = str(connection.settings_dict["NAME"])
    assert name.startswith("test_")
    database = urlunsplit(parts._replace(path=f"/{name}"))
    return {**os.environ, "DATABASE_URL": database, "DJANGO_SETTINGS_MODULE": "controlplane.settings", **changes}


@contextmanager
def running(*argv: str, log: Path, **changes: str) -> Iterator[subprocess.Popen[bytes]]:
    """``python argv`` in a session of its own, killed at the end if it is still there."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, *argv],
            cwd=ROOT,
            env=environment(**changes),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
