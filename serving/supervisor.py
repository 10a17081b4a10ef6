"""The parent: opens the socket, loads the model once, forks the workers, keeps them alive, forwards SIGTERM.

Loading once and forking shares the model's memory copy-on-write; gc.freeze() before the fork keeps the collector from
writing into the shared pages. With one worker nothing is forked.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import NoReturn

import orjson
import structlog

from serving.artifact import verify_artifact
from serving.bytecode import distrust_bytecode
from serving.errors import StartCode, StartFailedError
from serving.logs import configure_logs
from serving.metrics import SharedMetrics
from serving.model import LoadedModel, load_model, warm_up
from serving.settings import Settings
from serving.vestibule import Vestibule
from serving.worker import run_worker

log = structlog.get_logger(__name__)

EXIT_OK, EXIT_WORKERS_DIE, EXIT_START_FAILED = 0, 1, 3
_PR_SET_PDEATHSIG = 1
_WATCHED = frozenset({signal.SIGCHLD, signal.SIGTERM, signal.SIGINT})
# A worker that lives for less than this died of its own start; so many in a row and the parent gives up.
_SHORT_LIFE_SECONDS = 5.0
_SHORT_LIVES = 5
# Beyond the request timeout: connection hint, final telemetry and some air.
_STOP_EXTRA_SECONDS = 6.0


def run(settings: Settings) -> int:
    """Serve until told to stop. Returns the exit code."""
    configure_logs(endpoint=settings.endpoint, variant=settings.variant, instance=settings.instance)
    try:
        listening = _listen(settings.host, settings.port)
        with Vestibule(listening):
            model = _prepare(settings)
    except StartFailedError as error:
        _report_start_failed(error)
        return EXIT_START_FAILED
    labels = {"endpoint": settings.endpoint, "variant": settings.variant, "version": settings.version}
    shared = SharedMetrics(settings.workers, labels)
    if settings.workers == 1:
        gc.freeze()
        run_worker(settings, model, listening, shared, 0)
        return EXIT_OK
    return _Supervisor(settings, model, listening, shared).run()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(2048)
    except OSError as error:
        listening.close()
        raise StartFailedError(StartCode.PORT_TAKEN, f"cannot listen on {host}:{port}: {error.strerror}") from error
    return listening


def _prepare(settings: Settings) -> LoadedModel:
    started = time.monotonic()
    folder = verify_artifact(settings.artifact_uri, settings.artifact_digest)
    distrust_bytecode(folder)
    model = load_model(folder)
    warm_up(model, folder)
    log.info("model_loaded", model=settings.model, version=settings.version, seconds=time.monotonic() - started)
    return model


def _report_start_failed(error: StartFailedError) -> None:
    """The last line on stderr, in the exact form of contracts section 4."""
    logging.shutdown()
    line = orjson.dumps({"event": "start_failed", "code": error.code.value, "detail": error.detail})
    sys.stderr.write(line.decode() + "\n")
    sys.stderr.flush()


@dataclass(slots=True)
class _Child:
    index: int
    started: float = field(default_factory=time.monotonic)


class _Supervisor:
    """Owns the worker processes. Signals are blocked and waited for, so nothing happens between two lines."""

    def __init__(self, settings: Settings, model: LoadedModel, listening: socket.socket, shared: SharedMetrics) -> None:
        self._settings = settings
        self._model = model
        self._listening = listening
        self._shared = shared
        self._children: dict[int, _Child] = {}
        self._short_lives = 0

    def run(self) -> int:
        """Start all workers and watch them until SIGTERM or SIGINT."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
        if threading.active_count() > 1:
            names = [thread.name for thread in threading.enumerate()]
            log.warning("threads_before_fork", threads=names)  # they do not exist in the workers
        gc.collect()
        gc.freeze()
        for index in range(self._settings.workers):
            self._fork(index)
        while True:
            received = signal.sigwaitinfo(_WATCHED)
            if received.si_signo != signal.SIGCHLD:
                return self._stop(EXIT_OK)
            if not self._replace_dead():
                return self._stop(EXIT_WORKERS_DIE)

    def _fork(self, index: int) -> None:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._be_worker(index, parent)
        self._children[pid] = _Child(index)

    def _be_worker(self, index: int, parent: int) -> NoReturn:
        code = EXIT_WORKERS_DIE
        try:
            _die_with_parent(parent)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
            run_worker(self._settings, self._model, self._listening, self._shared, index)
            code = EXIT_OK
        except BaseException:
            log.exception("worker_failed", worker=index)
        finally:
            logging.shutdown()
            os._exit(code)  # never back into the parent's code

    def _replace_dead(self) -> bool:
        """Reap what died and start it again. False when workers keep dying right after their start."""
        for pid, status in self._reap():
            child = self._children.pop(pid)
            lived = time.monotonic() - child.started
            self._short_lives = self._short_lives + 1 if lived < _SHORT_LIFE_SECONDS else 0
            code = os.waitstatus_to_exitcode(status)
            log.error("worker_died", worker=child.index, pid=pid, exit_code=code, lived_seconds=lived)
            if self._short_lives > _SHORT_LIVES:
                return False
            if self._short_lives > 1:
                time.sleep(0.2 * self._short_lives)
            self._fork(child.index)
        return True

    def _reap(self) -> list[tuple[int, int]]:
        dead = []
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0] != 0:
                dead.append(found)
        return [(pid, status) for pid, status in dead if pid in self._children]

    def _stop(self, code: int) -> int:
        self._listening.close()
        self._signal_all(signal.SIGTERM)
        deadline = time.monotonic() + self._settings.limits.timeout_seconds + _STOP_EXTRA_SECONDS
        while self._children and (left := deadline - time.monotonic()) > 0:
            signal.sigtimedwait({signal.SIGCHLD}, left)
            for pid, _ in self._reap():
                del self._children[pid]
        self._signal_all(signal.SIGKILL)
        return code

    def _signal_all(self, number: int) -> None:
        for pid in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def _die_with_parent(parent: int) -> None:
    """A worker whose parent was killed would hold the port for ever. Elsewhere than on Linux nothing does this."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the line above
        os._exit(EXIT_WORKERS_DIE)
