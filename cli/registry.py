"""`pilothouse models`, `versions` and `aliases`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.exits import CliError, Exit
from cli.output import Format, say_dry, show_facts, show_rows
from cli.session import session_of

models = typer.Typer(invoke_without_command=True)
versions = typer.Typer(no_args_is_help=True)
aliases = typer.Typer(no_args_is_help=True)
Output = Annotated[Format | None, typer.Option("-o", "--output", help="How results are printed.")]
Key = Annotated[str | None, typer.Option(help="For a CI job that may run twice.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, change nothing.")]
Find = Annotated[str | None, typer.Option("--filter", help="For example: name LIKE 'late-%' AND tags.owner = 'risk'.")]
OrderBy = Annotated[str | None, typer.Option(help="For example: last_updated_timestamp DESC.")]
Model = Annotated[str, typer.Argument(help="The model's name.")]
Version = Annotated[str, typer.Argument(help="major.minor.patch, a number, or an alias.")]


@models.callback()
def models_default(context: typer.Context, output: Output = None) -> None:
    """Models; without a command, their list."""
    if context.invoked_subcommand is None:
        model_list(context, output=output)


@models.command("list")
def model_list(context: typer.Context, find: Find = None, order_by: OrderBy = None, output: Output = None) -> None:
    """List models with their newest version and aliases."""
    session = session_of(context, output)
    found = list(session.client.pages("models", filter=find, order_by=order_by))
    rows = [
        (one["name"], one["latest_version"], one["version_count"], [f"{k}={v}" for k, v in one["aliases"].items()])
        for one in found
    ]
    session.show(found, lambda: show_rows(("name", "latest", "versions", "aliases"), rows))


@models.command("create")
def model_create(
    context: typer.Context, name: Model, description: str = "", idempotency_key: Key = None, output: Output = None
) -> None:
    """Make a model without versions."""
    session = session_of(context, output)
    body = {"name": name, "description": description}
    found = session.client.post("models", body=body, key=idempotency_key)
    session.show(found, lambda: show_facts({name: found[name] for name in ("name", "description", "created_by")}))


@versions.command("list")
def version_list(
    context: typer.Context,
    model: Annotated[str | None, typer.Argument(help="The model's name; without one, versions of every model.")] = None,
    find: Find = None,
    order_by: OrderBy = None,
    output: Output = None,
) -> None:
    """List the versions of a model, newest registration first, or those that a filter finds."""
    session = session_of(context, output)
    place = ("models", model, "versions") if model else ("versions",)
    found = list(session.client.pages(*place, filter=find, order_by=order_by))
    columns = ("version", "number", "status", "aliases", "created_at")
    rows = [(*(() if model else (one["model"],)), *(one[name] for name in columns)) for one in found]
    heads = ("version", "number", "status", "aliases", "registered")
    session.show(found, lambda: show_rows(heads if model else ("model", *heads), rows))


@versions.command("show")
def version_show(context: typer.Context, model: Model, version: Version, output: Output = None) -> None:
    """Show one version."""
    session = session_of(context, output)
    found = session.client.get("models", model, "versions", version)
    session.show(found, lambda: _show_version(found))


@versions.command("compare")
def version_compare(
    context: typer.Context,
    model: Model,
    stable: Annotated[str, typer.Argument(help="What serves now.")],
    candidate: Annotated[str, typer.Argument(help="What would take over.")],
    output: Output = None,
) -> None:
    """Could CANDIDATE answer every call made for STABLE? Exit code 8 when it would break one."""
    session = session_of(context, output)
    found = session.client.get("models", model, "compare", stable=stable, candidate=candidate)
    rows = [(one["column"], one["what"], one["detail"]) for one in found["differences"]]
    fits = f"{found['candidate']} answers every call made for {found['stable']}."
    session.show(found, lambda: show_rows(("column", "what", "detail"), rows) if rows else typer.echo(fits))
    if not found["is_drop_in"]:
        raise CliError(Exit.REFUSED, f"{found['candidate']} would break callers of {found['stable']}.")


@versions.command("register")
def version_register(
    context: typer.Context,
    model: Model,
    version: Annotated[str, typer.Argument(help="major.minor.patch")],
    path: Annotated[str, typer.Argument(help="The folder that mlflow saved the model to, as the server sees it.")],
    metrics_file: Annotated[Path | None, typer.Option(help="A JSON file with the metrics.")] = None,
    description: str = "",
    run_id: str = "",
    idempotency_key: Key = None,
    output: Output = None,
) -> None:
    """Register an artifact as an immutable version."""
    session = session_of(context, output)
    body: dict[str, Any] = {"version": version, "path": path, "description": description, "run_id": run_id}
    if metrics_file is not None:
        body["metrics"] = read_json(metrics_file)
    found = session.client.post("models", model, "versions", body=body, key=idempotency_key)
    session.show(found, lambda: _show_version(found))


@aliases.command("move")
def alias_move(
    context: typer.Context,
    model: Model,
    alias: str,
    version: Version,
    expected_version: Annotated[
        str | None, typer.Option(help='Where you saw it point ("" for nowhere); exit code 7 when it has moved since.')
    ] = None,
    dry_run: DryRun = False,
    output: Output = None,
) -> None:
    """Point an alias at a version; it is made where it is missing."""
    session = session_of(context, output)
    body = {"version": version}
    if expected_version is not None:
        body["expected_version"] = expected_version
    found = session.client.put("models", model, "aliases", alias, body=body, dry_run=dry_run or None)
    session.show(found, lambda: show_facts({name: found[name] for name in ("model", "alias", "version")}))
    say_dry(dry_run)


def _show_version(found: dict[str, Any]) -> None:
    names = ("model", "version", "number", "status", "status_message", "flavor", "artifact_digest", "source_uri")
    facts = {name: found[name] for name in (*names, "aliases", "description", "created_at", "created_by")}
    show_facts({**facts, "tags": [f"{key}={value}" for key, value in found["tags"].items()]})


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises CliError."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CliError(Exit.USAGE, f"{path} cannot be read as JSON: {error}") from error
