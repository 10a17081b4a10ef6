"""`make up`: everything Pilothouse needs on this machine, in order, until Ctrl-C.

python -m embedded.up [--home DIR] [--no-demo] [--no-traffic]     start and supervise
python -m embedded.up --check | --reset                           say what runs | stop all and remove the home
"""

from __future__ import annotations

import argparse
import hashlib
import signal
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import psutil

from embedded import programs, state
from embedded.console import Console, Say
from embedded.errors import LaunchError
from embedded.ports import is_free, require_free
from embedded.processes import exit_code, is_alive, launch, stop_tree
from embedded.secret_files import ensure_secret
from embedded.services import Services
from embedded.settings import ROOT, Settings, child_environment, read_settings
from embedded.supervise import Supervisor, leftover

SECRETS = ("secret_key", "ingest.token", "agent.token")
READY_SECONDS = 90.0


class Interrupted(Exception):
    """Somebody asked us to stop."""


@dataclass
class Interrupts:
    """Counts Ctrl-C, SIGTERM and SIGHUP: the first asks to stop, the second to kill."""

    count: int = 0

    def install(self) -> None:
        for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(sig, self._note)

    def _note(self, _signal: int, _frame: FrameType | None) -> None:
        self.count += 1
        if self.count == 2:
            # Out of whatever waits; the first one is polled, so that no step is cut in half.
            raise KeyboardInterrupt

    def check(self) -> None:
        if self.count:
            raise Interrupted

    def sleep(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.check()
            time.sleep(min(0.1, seconds))


@dataclass
class Up:
    """One run of the launcher."""

    settings: Settings
    say: Say
    interrupts: Interrupts
    has_demo: bool = True
    has_traffic: bool = True
    supervisor: Supervisor | None = None
    environment: dict[str, str] = field(default_factory=dict)
    owns_services: bool = False
    servers: list[psutil.Process | None] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    def run(self) -> None:
        """Starts all, prints the link, supervises until interrupted; stops in reverse order whatever happens."""
        try:
            self._start()
            while True:
                self.interrupts.sleep(0.5)
                self._watch_services()
                if self.supervisor is not None:
                    self.supervisor.tick()
        except Interrupted:
            self.say("Stopping, last started first (Ctrl-C again to kill)")
        finally:
            self._stop()

    @property
    def _services(self) -> Services:
        return Services(self.settings.home)

    @property
    def _owned(self) -> Path:
        """Exists while the embedded services are ours to stop, also for the launcher after a killed one."""
        return self.settings.home / "run" / "owns-services"

    def _start(self) -> None:
        settings = self.settings
        for name in SECRETS:
            ensure_secret(settings.secrets, name)
        self._stop_leftovers()
        self._require_ports()
        self._start_services()
        self.supervisor = Supervisor(ROOT, settings.home, self.environment, self.say)
        self.supervisor.start(programs.agent(settings))
        self._prepare_control_plane()
        for program in programs.control_plane(settings):
            self.supervisor.start(program)
        # Both need the database alone: they start Python while the programs do.
        # Whoever has the link becomes the first admin: it is on the terminal, and in no log that others can read.
        link = self._begin("setup_link", "setup_link", folder=settings.secrets)
        demo = self._begin("prepare_demo", "prepare_demo") if self.has_demo else None
        for program in (programs.agent(settings), *programs.control_plane(settings)):
            self._wait_live(program)
        if demo is not None:
            self._demo(demo)
        self._link(link)

    def _stop_leftovers(self) -> None:
        """What a killed launcher left, except the agent: it keeps serving and is adopted."""
        for name in state.NAMES:
            process = leftover(self.settings.home, name)
            if process is not None and name != "agent":
                self.say(f"Stopping {name} (pid {process.pid}), left by a launcher that was killed")
                stop_tree(process)

    def _require_ports(self) -> None:
        settings = self.settings
        require_free(settings.web_port, what="web server", variable="PILOTHOUSE_WEB_PORT")
        if leftover(settings.home, "agent") is not None:
            return
        require_free(settings.agent_port, what="node agent", variable="PILOTHOUSE_AGENT_PORT")
        if not _is_our_gateway(settings.gateway_port, settings.home):
            require_free(settings.gateway_port, what="gateway", variable="PILOTHOUSE_GATEWAY_PORT")
            require_free(
                settings.gateway_admin_port, what="gateway's admin page", variable="PILOTHOUSE_GATEWAY_ADMIN_PORT"
            )

    def _start_services(self) -> None:
        settings = self.settings
        database_url, redis_url = settings.database_url, settings.redis_url
        if database_url is None or redis_url is None:
            if not (self._services.postgres.process() or self._services.valkey.process()):
                self._owned.touch()
            self.owns_services = self._owned.exists()
            self._services.start(self.say, postgres=database_url is None, valkey=redis_url is None)
        if database_url is None:
            database_url = self._services.postgres.url()
        if redis_url is None:
            redis_url = self._services.valkey.url()
        self.environment = child_environment(settings, database_url=database_url, redis_url=redis_url)
        self.servers = [self._services.postgres.process()] if settings.database_url is None else []
        self.servers += [self._services.valkey.process()] if settings.redis_url is None else []

    def _watch_services(self) -> None:
        """Starts a server that ended again: on its old port, so whoever uses it finds it there."""
        if all(server is not None and is_alive(server) for server in self.servers):
            return
        self.say("PostgreSQL or Valkey ended; starting it again")
        self._start_services()

    def _prepare_control_plane(self) -> None:
        """Migrations and static files beside each other: most of both is starting Python."""
        steps = [self._begin("migrate", "migrate", "--noinput")]
        stamp, wanted = self.settings.home / "run" / "static.stamp", _static_fingerprint()
        is_stale = not stamp.exists() or stamp.read_text() != wanted
        if is_stale:
            steps.append(self._begin("collectstatic", "collectstatic", "--noinput"))
        for step in steps:
            self._finish(step)
        if is_stale:
            stamp.write_text(wanted)
        self.say("Database migrated" + (", static files collected" if is_stale else ""))

    def _begin(self, name: str, *arguments: str, folder: Path | None = None) -> Step:
        log = (folder or self.settings.logs) / f"{name}.log"
        offset = log.stat().st_size if log.exists() else 0
        command = [sys.executable, str(ROOT / "manage.py"), *arguments]
        step = Step(name, launch(command, folder=ROOT, log=log, environment=self.environment), log, offset)
        self.steps.append(step)
        return step

    def _finish(self, step: Step, *, telling: str | None = None) -> None:
        """Waits for it, and says those of its lines that begin with ``telling``. Raises LaunchError with its last."""
        told, is_over = 0, False
        while not is_over:
            is_over = not is_alive(step.process)  # before its lines are read: none is missed
            lines = [] if telling is None else [line for line in step.lines() if line.startswith(telling)]
            for line in lines[told:]:
                self.say(f"  {line}")
            told = len(lines)
            if not is_over:
                self.interrupts.sleep(0.05)
        if step.exit_code() != 0:
            raise LaunchError(f"{step.name} failed: {step.last_line()} See {step.log}.")

    def _wait_live(self, program: programs.Program) -> None:
        """Until it answers; a program without an address only has to run. Raises LaunchError after 90 s."""
        assert self.supervisor is not None  # noqa: S101  # set by the only caller
        child = self.supervisor.children[program.name]
        deadline = time.monotonic() + READY_SECONDS
        while not (is_alive(child.process) and (program.live_url is None or _answers(program.live_url))):
            self.supervisor.tick()
            self.interrupts.sleep(0.1)
            if time.monotonic() > deadline:
                where = f"answer on {program.live_url}" if program.live_url else "stay up"
                raise LaunchError(
                    f"{program.name} did not {where} within {READY_SECONDS:.0f} s. See {self.supervisor.log(program)}."
                )
        self.say(f"{program.name} {'answers' if program.live_url else 'started'} (pid {child.process.pid})")

    def _demo(self, step: Step) -> None:
        """A demo that cannot be made is no reason to take the product away."""
        assert self.supervisor is not None  # noqa: S101
        self.say("Preparing the demo")
        try:
            self._finish(step, telling="demo: ")
        except LaunchError as error:
            self.say(f"The demo is not there: {error}")
            return
        self.say("Demo is ready")
        if self.has_traffic:
            program = programs.traffic(self.settings)
            self.supervisor.start(program)
            self.say(f"traffic runs ({self.settings.demo_rate:g} requests per second; write another number to "
                     f"{self.settings.home / 'demo' / 'rate'})")  # fmt: skip

    def _link(self, step: Step) -> None:
        try:
            self._finish(step)
            link = step.last_line()
            step.log.unlink()
        except LaunchError as error:
            self.say(str(error))
            link = self.settings.web_url
        self.say(f"Pilothouse is ready: {link}")

    def _stop(self) -> None:
        try:
            for step in self.steps:
                if is_alive(step.process):
                    stop_tree(step.process)
            if self.supervisor is not None:
                self.supervisor.stop_all()
            if self.owns_services:
                self._services.stop(self.say)
                self._owned.unlink(missing_ok=True)
        except KeyboardInterrupt:
            self.say("Killing what is left")
            if self.supervisor is not None:
                self.supervisor.kill_all()
            if self.owns_services:
                # Servers are still asked: a killed database costs the next start more than the second it takes.
                self._services.stop(self.say)
                self._owned.unlink(missing_ok=True)


@dataclass(frozen=True)
class Step:
    """A command that runs once; its output in `log` from `offset` on."""

    name: str
    process: psutil.Process
    log: Path
    offset: int

    def exit_code(self) -> int:
        return exit_code(self.process.pid)

    def lines(self) -> list[str]:
        """What it has written so far; a line that is not at its end is left for later."""
        with self.log.open("rb") as log:
            log.seek(self.offset)
            text = log.read().decode(errors="replace")
        return [line.strip() for line in text[: text.rfind("\n") + 1].splitlines() if line.strip()]

    def last_line(self) -> str:
        return (self.lines() or [""])[-1]


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310  # our own loopback address
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _is_our_gateway(port: int, home: Path) -> bool:
    """Whether the port is held by an Envoy that this home's agent started and will adopt."""
    if is_free(port):
        return False
    for process in psutil.process_iter():
        try:
            if process.name().startswith("envoy") and any(str(home / "agent") in part for part in process.cmdline()):
                return True
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return False


def _static_fingerprint() -> str:
    """Changes when a file of the frontend or a locked package changes."""
    digest = hashlib.sha256((ROOT / "requirements" / "runtime.lock").read_bytes())
    for file in sorted((ROOT / "frontend").rglob("*")):
        if file.is_file():
            digest.update(f"{file.relative_to(ROOT)} {file.stat().st_size} {file.stat().st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m embedded.up", description="Starts Pilothouse on this machine.")
    parser.add_argument("--home", type=Path, help="data folder (default: PILOTHOUSE_HOME, else var)")
    parser.add_argument("--no-demo", action="store_true")
    parser.add_argument("--no-traffic", action="store_true")
    parser.add_argument("--check", action="store_true", help="say what runs, start nothing")
    parser.add_argument("--reset", action="store_true", help="stop everything and remove the data folder")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    arguments = _parse(argv)
    console = Console()
    try:
        settings = read_settings(arguments.home)
        if arguments.check:
            sys.stdout.writelines(f"{line}\n" for line in state.describe(settings.home))
            return 0
        if arguments.reset:
            state.reset(settings.home, console.say)
            return 0
        interrupts = Interrupts()
        interrupts.install()
        state.make_home(settings.home)
        with state.only_one(settings.home):
            Up(settings, console.say, interrupts, not arguments.no_demo, not arguments.no_traffic).run()
    except LaunchError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
