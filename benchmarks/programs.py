"""The programs that are measured, as real processes, and what they cost."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from harness import ROOT


def free_port() -> int:
    """A port nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Cost:
    """CPU seconds used so far, and the private memory (USS) now in MiB, of a process and all its children."""

    cpu_seconds: float
    memory_mib: float


def cost(pid: int) -> Cost:
    """Of the family of ``pid``. USS leaves out what forked workers share, so nothing is counted twice."""
    parent = psutil.Process(pid)
    cpu = memory = 0.0
    for process in [parent, *parent.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            cpu += times.user + times.system
            memory += process.memory_full_info().uss / 2**20
    return Cost(cpu, memory)


@contextmanager
def started(argv: list[str], *, ready_url: str, log: Path, seconds: float = 120.0) -> Iterator[subprocess.Popen[bytes]]:
    """A program in a session of its own, from when ``ready_url`` answers 200 until the end of the block."""
    with log.open("ab") as output:
        process = subprocess.Popen(argv, cwd=ROOT, stdout=output, stderr=output, start_new_session=True)
    try:
        _await(ready_url, process, log, seconds)
        yield process
    finally:
        # its whole session: mlflow's command line is a shell around the server it starts
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(15)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _await(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the program ended with {process.returncode}: {log.read_text()[-2000:]}")
        with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(url, timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.2)
    raise RuntimeError(f"{url} did not answer within {seconds:.0f} s: {log.read_text()[-2000:]}")


@contextmanager
def our_serving(artifact: Path, work: Path) -> Iterator[tuple[int, int]]:
    """`python -m serving` as an agent starts it, one worker; gives (pid, port)."""
    from serving.artifact import artifact_digest

    port = free_port()
    config = work / "serving.json"
    document = {
        "endpoint": "bench", "variant": "v1-0-0", "version": "1.0.0", "model": "bench",
        "artifact_uri": artifact.as_uri(), "artifact_digest": artifact_digest(artifact),
        "host": "127.0.0.1", "port": port, "workers": 1, "telemetry": None,
    }  # fmt: skip
    config.write_text(json.dumps(document), encoding="utf-8")
    argv = [sys.executable, "-m", "serving", "--config", str(config), "--instance", "bench"]
    url = f"http://127.0.0.1:{port}/v2/health/ready"
    with started(argv, ready_url=url, log=work / "serving.log") as process:
        yield process.pid, port


@contextmanager
def mlflow_serving(artifact: Path, work: Path) -> Iterator[tuple[int, int]]:
    """`mlflow models serve` with one worker in this environment; gives (pid, port)."""
    port = free_port()
    argv = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(artifact), "--host", "127.0.0.1"]
    argv += ["--port", str(port), "--workers", "1", "--env-manager", "local"]
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # it looks for uvicorn there
    with started(argv, ready_url=f"http://127.0.0.1:{port}/ping", log=work / "mlflow.log") as process:
        yield _uvicorn(process.pid), port


def _uvicorn(pid: int) -> int:
    """The server itself: the command line that waits for it holds another 180 MiB that no container would."""
    for process in psutil.Process(pid).children(recursive=True):
        if any(part.endswith("uvicorn") for part in process.cmdline()):
            return process.pid
    raise RuntimeError("mlflow started no uvicorn")
