"""The entry point: options that every command shares, and errors to exit codes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from cli import (
    admin,
    alerts,
    audit,
    experiment,
    image,
    importing,
    keys,
    places,
    registry_changes,
    rollout,
    sequence,
    slo,
    webhooks,
)
from cli.client import Client, is_address, read_token
from cli.exits import CliError
from cli.output import Format, say
from cli.session import Session

cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Carry model versions into production, from a terminal or a CI job. Exit codes: 0 reached the target, "
    "1 failed, 2 usage, 3 rolled back or aborted, 4 waits for a person, 5 wait timed out, 6 sign-in, "
    "7 conflict or stale, 8 refused by a rule.",
)
cli.add_typer(rollout.commands, name="rollout", help="Plan, start, follow and steer rollouts.")
cli.add_typer(rollout.commands, name="rollouts", hidden=True)
cli.add_typer(sequence.commands, name="sequence", help="One version to several endpoints, wave after wave.")
cli.add_typer(sequence.commands, name="sequences", hidden=True)
cli.add_typer(experiment.commands, name="experiment", help="Plan, start and decide experiments.")
cli.add_typer(experiment.commands, name="experiments", hidden=True)
cli.add_typer(slo.commands, name="slo", help="What endpoints promise, and how their budgets stand.")
cli.add_typer(registry_changes.models, name="models")
cli.add_typer(registry_changes.models, name="model", hidden=True)
cli.add_typer(registry_changes.versions, name="versions", help="Model versions: look, compare, register, tag, delete.")
cli.add_typer(registry_changes.aliases, name="aliases", help="Aliases of versions, such as champion.")
cli.add_typer(image.commands, name="image", help="Container images of versions: Dockerfile, pipelines, builds.")
cli.add_typer(places.endpoints, name="endpoints")
cli.add_typer(places.targets, name="targets")
cli.add_typer(places.freezes, name="freezes")
cli.add_typer(keys.tokens, name="tokens")
cli.add_typer(alerts.commands, name="alerts", help="What is wrong: list, take on, silence, close, wait.")
cli.add_typer(alerts.commands, name="alert", hidden=True)
cli.add_typer(webhooks.commands, name="webhook")
cli.add_typer(webhooks.commands, name="webhooks", hidden=True)
cli.add_typer(audit.commands, name="audit", help="The audit log: check an export offline, fetch one, look.")
cli.add_typer(admin.commands, name="admin")
cli.command("whoami")(keys.whoami)
cli.command("import")(importing.import_registry)


@cli.callback()
def shared(
    context: typer.Context,
    url: Annotated[str, typer.Option(envvar="PILOTHOUSE_URL", help="Where Pilothouse is.")] = "http://127.0.0.1:8000",
    token_file: Annotated[
        Path | None, typer.Option(envvar="PILOTHOUSE_TOKEN_FILE", help="A file that holds the API key.")
    ] = None,
    output: Annotated[Format, typer.Option("-o", "--output", help="How results are printed.")] = Format.TABLE,
    token: Annotated[str | None, typer.Option(envvar="PILOTHOUSE_TOKEN", hidden=True)] = None,
) -> None:
    if not is_address(url):
        raise typer.BadParameter("an http:// or https:// address", param_hint="--url")
    context.obj = Session(lambda: Client(url, read_token(token, token_file)), output)


def app() -> None:
    """The ``pilothouse`` program."""
    try:
        cli(prog_name="pilothouse")
    except CliError as error:
        say(error.sentence)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    app()
