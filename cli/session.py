"""What the shared options became; every command gets it as ``context.obj``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import typer

from cli.client import Client
from cli.output import Format, show_data


@dataclass
class Session:
    """``client`` is made at its first use: `--help` needs no key."""

    connect: Callable[[], Client]
    output: Format

    @cached_property
    def client(self) -> Client:
        return self.connect()

    def show(self, value: Any, table: Callable[[], None]) -> None:
        """``value`` as the API gave it, or ``table`` for people."""
        if self.output is Format.TABLE:
            table()
        else:
            show_data(value, self.output)


def session_of(context: typer.Context, output: Format | None = None) -> Session:
    """The session; ``-o`` may stand after the command as well."""
    session = cast(Session, context.find_root().obj)
    if output is not None:
        session.output = output
    return session
