"""`pilothouse models`, `endpoints` and `versions`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.exits import CliError, Exit
from cli.output import Format, show_facts, show_json, show_rows
from cli.session import session_of

versions = typer.Typer(no_args_is_help=True)
Output = Annotated[Format | None, typer.Option("-o", "--output", help="How results are printed.")]


def models(context: typer.Context, output: Output = None) -> None:
    """List models with their newest version and aliases."""
    session = session_of(context, output)
    found = list(session.client.pages("models"))
    if session.is_json:
        show_json(found)
        return
    rows = [
        (one["name"], one["latest_version"], one["version_count"], [f"{k}={v}" for k, v in one["aliases"].items()])
        for one in found
    ]
    show_rows(("name", "latest", "versions", "aliases"), rows)


def endpoints(context: typer.Context, output: Output = None) -> None:
    """List endpoints with what serves there."""
    session = session_of(context, output)
    found = list(session.client.pages("endpoints"))
    if session.is_json:
        show_json(found)
        return
    show_rows(
        ("name", "target", "environment", "model", "stable", "traffic", "rollout"),
        [
            (
                one["name"],
                one["target"],
                one["environment"],
                one["model"],
                one["stable_version"],
                [
                    f"{variant['version']} {variant['weight_bp'] / 100:g} % {variant['state']}"
                    for variant in one["variants"]
                ],
                one["rollout"],
            )
            for one in found
        ],
    )


@versions.command("list")
def version_list(context: typer.Context, model: str, output: Output = None) -> None:
    """List the versions of a model, newest registration first."""
    session = session_of(context, output)
    found = list(session.client.pages("models", model, "versions"))
    if session.is_json:
        show_json(found)
        return
    rows = [(one["version"], one["number"], one["status"], one["aliases"], one["created_at"]) for one in found]
    show_rows(("version", "number", "status", "aliases", "registered"), rows)


@versions.command("register")
def version_register(
    context: typer.Context,
    model: str,
    version: Annotated[str, typer.Argument(help="major.minor.patch")],
    path: Annotated[str, typer.Argument(help="The folder that mlflow saved the model to, as the server sees it.")],
    metrics_file: Annotated[Path | None, typer.Option(help="A JSON file with the metrics.")] = None,
    description: str = "",
    run_id: str = "",
    idempotency_key: Annotated[str | None, typer.Option(help="For a CI job that may run twice.")] = None,
    output: Output = None,
) -> None:
    """Register an artifact as an immutable version."""
    session = session_of(context, output)
    body: dict[str, Any] = {"version": version, "path": path, "description": description, "run_id": run_id}
    if metrics_file is not None:
        body["metrics"] = read_json(metrics_file)
    found = session.client.post("models", model, "versions", body=body, key=idempotency_key)
    if session.is_json:
        show_json(found)
        return
    names = ("model", "version", "number", "status", "flavor", "artifact_digest", "source_uri")
    show_facts({name: found[name] for name in names})


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises CliError."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CliError(Exit.USAGE, f"{path} cannot be read as JSON: {error}") from error
