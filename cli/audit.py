"""`pilothouse audit`: check an export offline, or fetch one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.audit_verify import Unusable, sentences
from cli.audit_verify import verify as verify_export
from cli.exits import CliError, Exit, exit_of_status
from cli.output import Format, say, show_data, show_facts, show_rows
from cli.session import session_of

commands = typer.Typer(no_args_is_help=True)
Output = Annotated[Format | None, typer.Option("-o", "--output", help="How results are printed.")]


@commands.command("verify")
def verify(
    export: Annotated[Path, typer.Argument(help="The JSON lines that the export wrote.")],
    checkpoints: Annotated[Path | None, typer.Option(help="The sink's checkpoints.jsonl, or its folder.")] = None,
    keys: Annotated[Path | None, typer.Option(help="Public keys that you trust: keys.json, kept elsewhere.")] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Accept a filtered export.")] = False,
) -> None:
    """Check an export without a server, and name the first bad entry. Exit codes: 0 intact, 1 broken, 2 unreadable."""
    try:
        report = verify_export(export, checkpoints=checkpoints, keys=keys, is_partial=partial)
    except Unusable as error:
        raise CliError(Exit.USAGE, f"{error}.") from error
    for sentence in sentences(report):
        typer.echo(sentence)
    if not report.is_intact:
        raise typer.Exit(Exit.FAILED)


@commands.command("status")
def status(context: typer.Context, output: Output = None) -> None:
    """Say how far the server has read its log back. Exit code 1 when it is broken."""
    session = session_of(context, output)
    found = session.client.get("audit", "verify")
    names = ("state", "verified_seq", "verified_at", "last_seq", "rescanned_at", "first_bad", "reason")
    session.show(found, lambda: show_facts({name: found[name] for name in names}))
    if found["state"] == "broken":
        raise typer.Exit(Exit.FAILED)


@commands.command("list")
def entries(
    context: typer.Context,
    actor: str | None = None,
    verb: str | None = None,
    subject: Annotated[str | None, typer.Option(help="kind:id, kind:, an id or a label.")] = None,
    since: Annotated[str | None, typer.Option(help="For example 2026-03-01T00:00:00Z.")] = None,
    until: str | None = None,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 50,
    output: Output = None,
) -> None:
    """The newest entries that match."""
    session = session_of(context, output)
    asked = {"actor": actor, "verb": verb, "subject": subject, "since": since, "until": until, "limit": limit}
    found = session.client.get("audit", **asked)["items"]
    rows = [(one["seq"], one["at"], one["actor"]["label"], one["verb"], one["subject"]["label"]) for one in found]
    session.show(found, lambda: show_rows(("seq", "at", "actor", "verb", "subject"), rows))


@commands.command("keys")
def keys(context: typer.Context) -> None:
    """Print the public keys as JSON; keep the output elsewhere for `verify --keys`."""
    show_data(session_of(context).client.get("audit", "keys"), Format.JSON)


@commands.command("export")
def export(
    context: typer.Context, path: Annotated[Path, typer.Argument(help="Where the JSON lines are written.")]
) -> None:
    """Fetch the whole log; `verify` reads it."""
    # Streamed: the log is larger than memory. Not repeated on its own: each export is an entry of the log.
    client, count = session_of(context).client, 0
    with client._http.stream("GET", "audit/export") as answer:
        if not answer.is_success:
            answer.read()
            problem = answer.json() if "json" in answer.headers.get("content-type", "") else {}
            code = exit_of_status(answer.status_code, problem)
            raise CliError(code, str(problem.get("detail") or f"HTTP {answer.status_code}"), problem)
        with path.open("wb") as file:
            for piece in answer.iter_bytes():
                count += file.write(piece)
    say(f"{count:,} bytes in {path}")
