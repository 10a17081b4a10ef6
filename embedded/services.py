"""PostgreSQL and Valkey of one home folder.

    python -m embedded.services --home DIR start | stop | env | status

`start` adopts what already runs. Both servers live in sessions of their own and outlive whoever started them.
"""

from __future__ import annotations

import argparse
import fcntl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from embedded.console import Console, Say
from embedded.errors import LaunchError
from embedded.postgres import Postgres
from embedded.valkey import Valkey


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """One starter or stopper at a time; the kernel gives the lock back when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True)
class Services:
    """The two servers; `options` are PostgreSQL settings such as postgres.DISPOSABLE."""

    home: Path
    options: tuple[tuple[str, str], ...] = ()

    @property
    def postgres(self) -> Postgres:
        return Postgres(self.home.resolve(), self.options)

    @property
    def valkey(self) -> Valkey:
        return Valkey(self.home.resolve())

    def start(self, say: Say, *, postgres: bool = True, valkey: bool = True) -> None:
        with exclusive(self.home / "services.lock"):
            if valkey:
                self.valkey.start(say)
            if postgres:
                self.postgres.start(say)

    def stop(self, say: Say) -> None:
        """Valkey first: nobody can be told about work that PostgreSQL no longer holds."""
        with exclusive(self.home / "services.lock"):
            self.valkey.stop(say)
            self.postgres.stop(say)

    def urls(self) -> dict[str, str]:
        return {"DATABASE_URL": self.postgres.url(), "REDIS_URL": self.valkey.url()}


def _status(services: Services) -> list[str]:
    lines = []
    for name, process in (("PostgreSQL", services.postgres.process()), ("Valkey", services.valkey.process())):
        lines.append(f"{name}: {f'runs (pid {process.pid})' if process else 'does not run'}")
    return lines


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m embedded.services", description="PostgreSQL and Valkey.")
    parser.add_argument("--home", type=Path, default=Path("var"))
    parser.add_argument("verb", choices=["start", "stop", "env", "status"])
    arguments = parser.parse_args(argv)
    services = Services(arguments.home)
    console = Console()
    try:
        if arguments.verb == "start":
            services.start(console.say)
        elif arguments.verb == "stop":
            services.stop(console.say)
        elif arguments.verb == "env":
            sys.stdout.writelines(f"{name}={value}\n" for name, value in services.urls().items())
        else:
            sys.stdout.writelines(f"{line}\n" for line in _status(services))
    except LaunchError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except FileNotFoundError as error:
        sys.stderr.write(f"Nothing was started in {arguments.home} yet ({error.filename} is missing).\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
