"""`pilothouse admin`: chores of whoever runs the server, on the server itself. They need no API key but its machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.exits import CliError, Exit

commands = typer.Typer(no_args_is_help=True)
MANAGE = Path(__file__).resolve().parent.parent / "manage.py"


@commands.callback()
def admin() -> None:
    """Chores on the server itself: on the product that runs in PILOTHOUSE_HOME, or by the variables of a server."""


@commands.command("setup-link")
def setup_link() -> None:
    """Print the link that makes the first account (an older one dies), or the address where there is one already."""
    _manage("setup_link")


@commands.command("rotate-signing-key")
def rotate_signing_key() -> None:
    """Sign tokens with a new key; the one before verifies until its last token has expired."""
    _manage("signing_key_rotate")


@commands.command("rotate-vault")
def rotate_vault() -> None:
    """Seal every stored secret with a new key. Back the vault's file up before and after."""
    _manage("vault_rotate")


@commands.command("audit-keys")
def audit_keys(
    rotate: Annotated[bool, typer.Option("--rotate", help="Sign with a new key from now on.")] = False,
) -> None:
    """Print the public keys of the audit log's checkpoints."""
    _manage("audit_keys", *(["--rotate"] if rotate else []))


@commands.command("audit-lockdown")
def audit_lockdown(
    app_role: Annotated[str, typer.Option(help="The role that the program signs in with; made where it is missing.")],
    owner_role: Annotated[str, typer.Option(help="Who owns the tables (default: who does now).")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the statements, change nothing.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Only say whether the role is locked down.")] = False,
) -> None:
    """Take UPDATE, DELETE and ownership of the audit log from a database role. Run it as an administrator of it."""
    asked = [f"--app-role={app_role}", *([f"--owner-role={owner_role}"] if owner_role else [])]
    _manage("audit_lockdown", *asked, *(["--dry-run"] if dry_run else []), *(["--check"] if check else []))


@commands.command("check")
def check(
    deploy: Annotated[bool, typer.Option("--deploy", help="Also what only matters in production.")] = False,
) -> None:
    """Name settings that contradict each other or open too much, each with the way out."""
    _manage("check", *(["--deploy"] if deploy else []))


def _manage(*arguments: str) -> None:
    """The server's own command, with its answer and its exit code."""
    if not MANAGE.exists():
        raise CliError(Exit.USAGE, "The server is not installed beside this program: run this on the server itself.")
    done = subprocess.run([sys.executable, str(MANAGE), *arguments], check=False)
    if done.returncode:
        raise typer.Exit(int(Exit.FAILED))
