"""What the shared options became; every command gets it as ``context.obj``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import typer

from cli.client import Client
from cli.output import Format


@dataclass
class Session:
    """``client`` is made at its first use: `--help` needs no key."""

    connect: Callable[[], Client]
    output: Format

    @cached_property
    def client(self) -> Client:
        return self.connect()

    @property
    def is_json(self) -> bool:
        return self.output is Format.JSON


def session_of(context: typer.Context, output: Format | None = None) -> Session:
    """The session; ``-o`` may stand after the command as well."""
    session = cast(Session, context.find_root().obj)
    if output is not None:
        session.output = output
    return session
