"""`pilothouse models`, `versions` and `aliases`: what changes or removes something that is there.

The commands hang on the groups of registry.py; take the groups from here, so that they have all of them.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli.exits import CliError, Exit
from cli.output import say, say_dry, show_facts
from cli.registry import DryRun, Model, Output, Version, aliases, models, versions
from cli.session import Session, session_of

ANY = {"If-Match": "*"}
"""Whoever types a name means it as it is now."""
Tags = Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE…", help="What to set.")]
Remove = Annotated[list[str] | None, typer.Option("--remove", help="A key to take away; may be repeated.")]
Reason = Annotated[str, typer.Option(help="Why; stays in the audit log.")]
STAGES = "none, staging, production or archived"

__all__ = ["aliases", "models", "versions"]


@models.command("show")
def model_show(context: typer.Context, model: Model, output: Output = None) -> None:
    """Show one model."""
    session = session_of(context, output)
    found = session.client.get("models", model)
    session.show(found, lambda: _show_model(found))


@models.command("tag")
def model_tag(
    context: typer.Context, model: Model, tags: Tags = None, remove: Remove = None, output: Output = None
) -> None:
    """Set tags of a model, and take some away."""
    session = session_of(context, output)
    _tag(session, ("models", model), tags, remove)
    found = session.client.get("models", model)
    session.show(found, lambda: _show_model(found))


@models.command("alias")
def model_alias(context: typer.Context, model: Model, alias: str, version: Version, output: Output = None) -> None:
    """Point an alias at a version; as `aliases move`."""
    session = session_of(context, output)
    found = session.client.put("models", model, "aliases", alias, body={"version": version})
    session.show(found, lambda: show_facts({name: found[name] for name in ("model", "alias", "version")}))


@models.command("describe")
def model_describe(
    context: typer.Context, model: Model, description: str, dry_run: DryRun = False, output: Output = None
) -> None:
    """Replace a model's description."""
    _change(session_of(context, output), model, {"description": description}, dry_run=dry_run)


@models.command("rename")
def model_rename(
    context: typer.Context, model: Model, new_name: str, dry_run: DryRun = False, output: Output = None
) -> None:
    """Give a model another name; its versions, numbers and aliases go with it."""
    _change(session_of(context, output), model, {"name": new_name}, dry_run=dry_run)


@models.command("delete")
def model_delete(context: typer.Context, model: Model, reason: Reason) -> None:
    """Delete a model that serves nowhere; its rows, numbers and history stay."""
    session_of(context).client.delete("models", model, headers=ANY, reason=reason)
    say(f"{model} has been deleted.")


@versions.command("tag")
def version_tag(
    context: typer.Context,
    model: Model,
    version: Version,
    tags: Tags = None,
    remove: Remove = None,
    output: Output = None,
) -> None:
    """Set tags of a version, and take some away."""
    session = session_of(context, output)
    place = ("models", model, "versions", version)
    _tag(session, place, tags, remove)
    found = session.client.get(*place)
    facts = {"model": found["model"], "version": found["version"], "tags": _listed(found["tags"])}
    session.show(found, lambda: show_facts(facts))


@versions.command("stage")
def version_stage(
    context: typer.Context,
    model: Model,
    version: Version,
    stage: Annotated[str, typer.Argument(help=f"{STAGES}; aliases say it better.")],
    archive_existing: Annotated[bool, typer.Option(help="Whatever is in that stage is archived first.")] = False,
    dry_run: DryRun = False,
    output: Output = None,
) -> None:
    """Move a version to one of MLflow's stages."""
    session = session_of(context, output)
    body = {"stage": stage.lower(), "archive_existing": archive_existing}
    found = session.client.put("models", model, "versions", version, "stage", body=body, dry_run=dry_run or None)
    session.show(found, lambda: show_facts({name: found[name] for name in ("model", "version", "stage")}))
    say_dry(dry_run)


@versions.command("delete")
def version_delete(context: typer.Context, model: Model, version: Version, reason: Reason) -> None:
    """Delete a version that serves nowhere; its number and semver are never given again."""
    session_of(context).client.delete("models", model, "versions", version, headers=ANY, reason=reason)
    say(f"{model} {version} has been deleted.")


@aliases.command("remove")
def alias_remove(
    context: typer.Context,
    model: Model,
    alias: str,
    expected_version: Annotated[
        str | None, typer.Option(help="Where you saw it point; exit code 7 when it has moved since.")
    ] = None,
) -> None:
    """Take an alias away; a protected one by a request only (exit code 6)."""
    session_of(context).client.delete("models", model, "aliases", alias, expected_version=expected_version)
    say(f"{model} has no alias {alias}.")


def _tag(session: Session, place: tuple[str, ...], tags: list[str] | None, remove: list[str] | None) -> None:
    """Raises CliError for a tag without "=", before anything is changed."""
    wanted = [one.partition("=") for one in tags or ()]
    wrong = next((key for key, mark, _ in wanted if not mark or not key), None)
    if wrong is not None or not (wanted or remove):
        raise CliError(Exit.USAGE, "Say what to set as KEY=VALUE, or what to take away with --remove KEY.")
    for key, _, value in wanted:
        session.client.put(*place, "tags", key, body={"value": value})
    for key in remove or ():
        session.client.delete(*place, "tags", key)


def _change(session: Session, model: str, body: dict[str, Any], *, dry_run: bool) -> None:
    found = session.client.patch("models", model, body=body, headers=ANY, dry_run=dry_run or None)
    session.show(found, lambda: _show_model(found))
    say_dry(dry_run)


def _show_model(found: dict[str, Any]) -> None:
    names = ("name", "team", "description", "latest_version", "version_count", "created_at", "created_by")
    shown = {name: found[name] for name in names}
    show_facts({**shown, "aliases": _listed(found["aliases"]), "tags": _listed(found["tags"])})


def _listed(pairs: dict[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in pairs.items()]
