"""`pilothouse endpoints`, `targets` and `freezes`: where models run, and when nothing may move."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.exits import CliError, Exit
from cli.output import say, say_dry, show_facts, show_rows
from cli.registry import DryRun, Key, Output, read_json
from cli.session import session_of

endpoints = typer.Typer(invoke_without_command=True)
targets = typer.Typer(invoke_without_command=True)
freezes = typer.Typer(invoke_without_command=True)
Environment = Annotated[str | None, typer.Option(help="development, staging or production.")]


@endpoints.callback()
def endpoints_default(context: typer.Context, output: Output = None) -> None:
    """Endpoints; without a command, their list."""
    if context.invoked_subcommand is None:
        endpoint_list(context, None, output)


@endpoints.command("list")
def endpoint_list(
    context: typer.Context,
    target: Annotated[str | None, typer.Option(help="On this target only.")] = None,
    output: Output = None,
) -> None:
    """List endpoints with what serves there."""
    session = session_of(context, output)
    found = list(session.client.pages("endpoints", target=target))
    columns = ("name", "target", "environment", "model", "stable", "traffic", "rollout")
    rows = [
        (*(one[name] for name in columns[:4]), one["stable_version"], _traffic(one), one["rollout"]) for one in found
    ]
    session.show(found, lambda: show_rows(columns, rows))


@endpoints.command("show")
def endpoint_show(context: typer.Context, endpoint: str, output: Output = None) -> None:
    """Show one endpoint: address, versions, what was last observed."""
    session = session_of(context, output)
    found = session.client.get("endpoints", endpoint)
    session.show(found, lambda: _show_endpoint(found))


@endpoints.command("create")
def endpoint_create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Part of the address: small letters, digits, hyphens.")],
    target: Annotated[str, typer.Option(help="Where it runs.")],
    model: Annotated[str, typer.Option(help="What it serves.")],
    version: Annotated[str, typer.Option(help="What it serves first: a version, a number or an alias.")],
    idempotency_key: Key = None,
    output: Output = None,
) -> None:
    """Serve a version at a new address, with all traffic."""
    session = session_of(context, output)
    body = {"name": name, "target": target, "model": model, "version": version}
    found = session.client.post("endpoints", body=body, key=idempotency_key)
    session.show(found, lambda: _show_endpoint(found))


@endpoints.command("remove")
def endpoint_remove(
    context: typer.Context,
    endpoint: str,
    reason: Annotated[str, typer.Option(help="Why; stays in the log.")],
    expected_revision: Annotated[
        int | None, typer.Option(help="The revision you decided on; the newest where it is missing.")
    ] = None,
) -> None:
    """Stop serving and forget the address; refused while a rollout is under way there."""
    session = session_of(context)
    seen = session.client.get("endpoints", endpoint)["revision"] if expected_revision is None else expected_revision
    session.client.delete("endpoints", endpoint, headers={"If-Match": f'"{seen}"'}, reason=reason)
    say(f"{endpoint} has been removed.")


@targets.callback()
def targets_default(context: typer.Context, output: Output = None) -> None:
    """Targets; without a command, their list."""
    if context.invoked_subcommand is None:
        target_list(context, output)


@targets.command("list")
def target_list(context: typer.Context, output: Output = None) -> None:
    """List targets and whether they answer."""
    session = session_of(context, output)
    found = list(session.client.pages("targets"))
    rows = [(one["name"], one["kind"], one["environment"], one["version"], _answers(one)) for one in found]
    session.show(found, lambda: show_rows(("name", "kind", "environment", "version", "answers"), rows))


@targets.command("show")
def target_show(context: typer.Context, target: str, output: Output = None) -> None:
    """Show one target: what it can do, and what it last said."""
    session = session_of(context, output)
    found = session.client.get("targets", target)
    session.show(found, lambda: _show_target(found))


@targets.command("create")
def target_create(
    context: typer.Context,
    name: str,
    kind: Annotated[str, typer.Option(help="The driver: local, ….")] = "local",
    environment: Environment = None,
    connection_file: Annotated[
        Path | None, typer.Option(help="A JSON file with what the driver needs; local: url and token_file.")
    ] = None,
    dry_run: DryRun = False,
    idempotency_key: Key = None,
    output: Output = None,
) -> None:
    """Connect a target; it is probed right after."""
    session = session_of(context, output)
    body: dict[str, Any] = {"name": name, "kind": kind}
    if environment is not None:
        body["environment"] = environment
    if connection_file is not None:
        body["connection"] = read_json(connection_file)
    found = session.client.post("targets", body=body, key=idempotency_key, dry_run=dry_run or None)
    session.show(found, lambda: _show_target(found))
    say_dry(dry_run)


@targets.command("change")
def target_change(
    context: typer.Context,
    target: str,
    environment: Environment = None,
    connection_file: Annotated[
        Path | None, typer.Option(help="A JSON file with the whole connection, as `show -o json` has it.")
    ] = None,
    credentials_file: Annotated[
        Path | None, typer.Option(help="A JSON file with those to replace; null forgets one.")
    ] = None,
    quiet: Annotated[str | None, typer.Option("--no-traffic-policy", help="hold, probe or skip.")] = None,
    expected_revision: Annotated[
        int | None, typer.Option(help="The revision you decided on; the newest where it is missing.")
    ] = None,
    even_if_silent: Annotated[bool, typer.Option(help="Store it although the target does not answer.")] = False,
    dry_run: DryRun = False,
    output: Output = None,
) -> None:
    """Change a connected target; it is asked with the new settings first, and what changes is shown."""
    session = session_of(context, output)
    named = {"environment": environment, "no_traffic_policy": quiet}
    body: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    files = {"connection": connection_file, "credentials": credentials_file}
    body |= {name: read_json(path) for name, path in files.items() if path is not None}
    if not body:
        raise CliError(Exit.USAGE, "Say what is to change: --environment, --connection-file, --credentials-file, …")
    planned = session.client.post("targets", target, "change", body=body)
    if dry_run:
        session.show(planned, lambda: _show_change(planned))
        say_dry(dry_run)
        return
    seen = planned["revision"] if expected_revision is None else expected_revision
    body |= {"even_if_silent": True} if even_if_silent else {}
    found = session.client.patch("targets", target, body=body, headers={"If-Match": f'"{seen}"'})
    session.show(found, lambda: _show_change(planned))
    say(f"{target} is at revision {found['revision']}.")


@targets.command("probe")
def target_probe(context: typer.Context, target: str, output: Output = None) -> None:
    """Ask a target now what it can do; exit code 1 when it does not answer."""
    session = session_of(context, output)
    found = session.client.post("targets", target, "probe", body={})
    session.show(found, lambda: _show_target(found))
    if found["probe_error"]:
        raise CliError(Exit.FAILED, f"{target} does not answer: {found['probe_error']}")


@freezes.callback()
def freezes_default(context: typer.Context, output: Output = None) -> None:
    """Freeze windows; without a command, those that are not over."""
    if context.invoked_subcommand is None:
        freeze_list(context, False, output)


@freezes.command("list")
def freeze_list(
    context: typer.Context,
    past: Annotated[bool, typer.Option("--past", help="Also those that are over.")] = False,
    output: Output = None,
) -> None:
    """List freeze windows."""
    session = session_of(context, output)
    found = list(session.client.pages("freezes", include_past=past))
    columns = ("id", "starts_at", "ends_at", "scope", "reason", "created_by")
    rows = [tuple(_scope(one) if name == "scope" else one[name] for name in columns) for one in found]
    session.show(found, lambda: show_rows(columns, rows))


@freezes.command("add")
def freeze_add(
    context: typer.Context,
    until: Annotated[str, typer.Option(help="Its end, with the offset: 2026-12-27T06:00:00Z.")],
    reason: Annotated[str, typer.Option(help="Whoever is stopped by it will read this.")],
    start: Annotated[str | None, typer.Option("--from", help="Its start; now where it is missing.")] = None,
    environment: Environment = None,
    endpoint: Annotated[str | None, typer.Option(help="With neither this nor --environment: everything.")] = None,
    dry_run: DryRun = False,
    idempotency_key: Key = None,
    output: Output = None,
) -> None:
    """No rollout starts or moves forward for a while; going back stays possible."""
    session = session_of(context, output)
    asked = {"ends_at": until, "reason": reason, "starts_at": start, "environment": environment, "endpoint": endpoint}
    body = {name: value for name, value in asked.items() if value is not None}
    found = session.client.post("freezes", body=body, key=idempotency_key, dry_run=dry_run or None)
    session.show(found, lambda: show_facts({**found, "object": None, "scope": _scope(found)}))
    say_dry(dry_run)


@freezes.command("lift")
def freeze_lift(
    context: typer.Context, freeze_id: str, reason: Annotated[str, typer.Option(help="Why; stays in the log.")]
) -> None:
    """End a freeze window early."""
    session_of(context).client.delete("freezes", freeze_id, reason=reason)
    say(f"{freeze_id} has been lifted.")


def _traffic(one: dict[str, Any]) -> list[str]:
    return [f"{item['version']} {item['weight_bp'] / 100:g} % {item['state']}" for item in one["variants"]]


def _show_endpoint(found: dict[str, Any]) -> None:
    names = (
        "name",
        "address",
        "target",
        "environment",
        "model",
        "stable_version",
        "rollout",
        "revision",
        "observed_at",
    )
    show_facts(
        {
            **{name: found[name] for name in names},
            "traffic": _traffic(found),
            "problems": [found[name] for name in ("observe_error", "route_error", "apply_error") if found[name]],
        }
    )


def _answers(one: dict[str, Any]) -> str:
    return one["probe_error"] or ("yes" if one["probed_at"] else "not asked yet")


def _show_target(found: dict[str, Any]) -> None:
    names = ("name", "kind", "environment", "version", "gateway_url", "no_traffic_policy", "warnings", "probed_at")
    can = [f"{name} {value}" for name, value in found["capabilities"].items() if value]
    show_facts({**{name: found[name] for name in names}, "can": can, "answers": _answers(found)})


def _show_change(found: dict[str, Any]) -> None:
    rows = [(one["path"], _value(one["before"]), _value(one["after"])) for one in found["differences"]]
    rows += [(f"credentials.{name}", "stored", "replaced") for name in found["credentials_replaced"]]
    rows += [(f"credentials.{name}", "stored", "forgotten") for name in found["credentials_forgotten"]]
    show_rows(("field", "before", "after"), rows)
    show_facts({"answers": found["probe_error"] or f"yes, version {found['version']}", "warnings": found["warnings"]})


def _value(value: Any) -> str:
    return "-" if value is None else value if isinstance(value, str) else json.dumps(value)


def _scope(one: dict[str, Any]) -> str:
    return one["endpoint"] or one["environment"] or "everything"
