"""`pilothouse tokens` and `whoami`: API keys, and whose key this is."""

from __future__ import annotations

import typer

from cli.output import show_facts, show_rows
from cli.registry import Output
from cli.session import session_of

tokens = typer.Typer(invoke_without_command=True)


@tokens.callback()
def tokens_default(context: typer.Context, output: Output = None) -> None:
    """API keys; without a command, their list. A person makes one on the page Account: a key cannot make keys."""
    if context.invoked_subcommand is None:
        token_list(context, output)


@tokens.command("list")
def token_list(context: typer.Context, output: Output = None) -> None:
    """List one's own keys; everybody's with the right to revoke them."""
    session = session_of(context, output)
    found = list(session.client.pages("tokens"))
    columns = ("id", "label", "username", "roles", "expires_at", "last_used_at", "revoked_at")
    rows = [[one[name] for name in columns] for one in found]
    session.show(found, lambda: show_rows(columns, rows))


@tokens.command("revoke")
def token_revoke(
    context: typer.Context, token_id: str = typer.Argument(help="The 12 characters after plh_."), output: Output = None
) -> None:
    """Switch a key off, for good."""
    session = session_of(context, output)
    found = session.client.delete("tokens", token_id)
    session.show(found, lambda: show_facts({name: found.get(name) for name in ("id", "label", "revoked_at")}))


def whoami(context: typer.Context, output: Output = None) -> None:
    """Whose key this is, and what it may do."""
    session = session_of(context, output)
    found = session.client.get("me")
    session.show(found, lambda: show_facts({name: found[name] for name in ("label", "username", "roles", "actions")}))
