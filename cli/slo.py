"""`pilothouse slo …`: what endpoints promise, how their budgets stand, and the same as Prometheus rules."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.exits import CliError, Exit
from cli.output import say, show_facts, show_rows
from cli.registry import Output, read_json
from cli.session import Session, session_of

commands = typer.Typer(no_args_is_help=True)
Endpoint = Annotated[str, typer.Argument(help="The endpoint's name.")]
ObjectiveId = Annotated[str, typer.Argument(help="The objective's id (ob_…).")]
Kind = Annotated[str, typer.Option(help="availability, errors, latency or percentile.")]
Target = Annotated[str, typer.Option(help="Per cent of requests that must be good, such as 99.5.")]
Limit = Annotated[int | None, typer.Option(help="Milliseconds, for latency and percentile.")]
Scope = Annotated[str | None, typer.Option(help="all versions together, or each by itself.")]
Days = Annotated[int | None, typer.Option(help="Days of the budget's period; 30.")]
Profile = Annotated[str | None, typer.Option(help="four_tiers or fast_slow; --policy for tiers of your own.")]
PolicyFile = Annotated[
    Path | None, typer.Option("--policy", help='A JSON file: {"tiers": […], "min_bad", "floor_requests"}.', exists=True)
]
Runbook = Annotated[str | None, typer.Option(help="http(s)://…; stands on every alert.")]
Replayed = Annotated[int, typer.Option("--days", help="So many days of traffic, at most 30.")]
COLUMNS = ("id", "name", "kind", "promise", "policy", "on")


@commands.command("list")
def objective_list(context: typer.Context, endpoint: Endpoint, output: Output = None) -> None:
    """List what an endpoint promises."""
    session = session_of(context, output)
    found = list(session.client.pages("endpoints", endpoint, "objectives"))
    rows = [
        (one["id"], one["name"], one["kind"], one["sentence"], one["policy"]["profile"], one["is_enabled"])
        for one in found
    ]
    session.show(found, lambda: show_rows(COLUMNS, rows))


@commands.command("status")
def status(context: typer.Context, endpoint: Endpoint, output: Output = None) -> None:
    """How the budgets stand, worst first; ends with 4 while something pages."""
    session = session_of(context, output)
    found = session.client.get("endpoints", endpoint, "burns")
    rows = [
        (one["name"], one["variant"] or "all", one["verdict"], _left(one), _gone(one), one["firing"], one["reason"])
        for one in found["burns"]
    ]
    columns = ("objective", "version", "verdict", "left", "gone in", "firing", "because")
    session.show(found, lambda: show_rows(columns, rows))
    if any(one["severity"] == "page" for one in found["burns"]):
        raise CliError(Exit.NEEDS_PERSON, f"{endpoint} burns a budget fast enough to page somebody.")


@commands.command("create")
def create(
    context: typer.Context,
    endpoint: Endpoint,
    name: Annotated[str, typer.Argument(help="What it is called.")],
    kind: Kind,
    target: Target,
    limit_ms: Limit = None,
    scope: Scope = None,
    period_days: Days = None,
    profile: Profile = None,
    policy: PolicyFile = None,
    runbook: Runbook = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only replay it over the last 30 days.")] = False,
    output: Output = None,
) -> None:
    """Promise something; with --dry-run say what it would have done, and keep nothing."""
    session = session_of(context, output)
    body = {"name": name, "kind": kind, "target_ppm": _ppm(target)}
    body |= _given(limit_ms, scope, period_days, profile, policy, runbook)
    if dry_run:
        found = session.client.post("endpoints", endpoint, "objectives", "replay", body={"objective": body})
        session.show(found, lambda: _show_replay(found))
        return
    made = session.client.post("endpoints", endpoint, "objectives", body=body)
    session.show(made, lambda: _show(made))


@commands.command("update")
def update(
    context: typer.Context,
    objective: ObjectiveId,
    name: Annotated[str | None, typer.Option(help="What it is called.")] = None,
    target: Annotated[str | None, typer.Option(help="Per cent of requests that must be good.")] = None,
    limit_ms: Limit = None,
    scope: Scope = None,
    period_days: Days = None,
    profile: Profile = None,
    policy: PolicyFile = None,
    runbook: Runbook = None,
    enabled: Annotated[bool | None, typer.Option("--on/--off", help="Whether anybody is told.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only replay it over the last 30 days.")] = False,
    output: Output = None,
) -> None:
    """Change what is named; with --dry-run say what it would have done, and change nothing."""
    session = session_of(context, output)
    changes = _given(limit_ms, scope, period_days, profile, policy, runbook)
    changes |= {"name": name} if name else {}
    changes |= {"target_ppm": _ppm(target)} if target else {}
    if dry_run:
        found = session.client.post("objectives", objective, "replay", body={"changes": changes})
        session.show(found, lambda: _show_replay(found))
        return
    changes |= {} if enabled is None else {"is_enabled": enabled}
    made = session.client.patch("objectives", objective, body=changes, headers=_seen(session, objective))
    session.show(made, lambda: _show(made))


@commands.command("delete")
def delete(context: typer.Context, objective: ObjectiveId) -> None:
    """Promise it no longer; an alert about it is closed."""
    session = session_of(context)
    session.client.delete("objectives", objective, headers=_seen(session, objective))
    say(f"{objective} is promised no longer.")


@commands.command("replay")
def replay(context: typer.Context, objective: ObjectiveId, days: Replayed = 30, output: Output = None) -> None:
    """What an objective would have done with the traffic of the last days."""
    session = session_of(context, output)
    found = session.client.post("objectives", objective, "replay", body={"days": days})
    session.show(found, lambda: _show_replay(found))


@commands.command("rules")
def rules(
    context: typer.Context,
    endpoint: Endpoint,
    file: Annotated[Path | None, typer.Option("-f", "--file", help="Write them here instead of printing them.")] = None,
    native: Annotated[bool, typer.Option("--native", help="Prometheus scrapes native histograms.")] = False,
) -> None:
    """Recording and alert rules of an endpoint for Prometheus, as YAML."""
    session = session_of(context)
    histograms = "native" if native else "classic"
    found = session.client.get("endpoints", endpoint, "prometheus-rules", histograms=histograms)
    for note in found["notes"]:
        say(note)
    if file is None:
        typer.echo(found["rules"].rstrip())
        return
    file.write_text(found["rules"])
    say(f"Rules are in {file}; check them with: promtool check rules {file}")


def _given(
    limit_ms: int | None,
    scope: str | None,
    period_days: int | None,
    profile: str | None,
    policy: Path | None,
    runbook: str | None,
) -> dict[str, Any]:
    given = {"limit_ms": limit_ms, "scope": scope, "period_days": period_days, "runbook_url": runbook}
    found: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if policy is not None:
        found["policy"] = {"profile": "custom", **read_json(policy)}
    elif profile is not None:
        found["policy"] = {"profile": profile}
    return found


def _ppm(text: str) -> int:
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        value = -1.0
    if not 0 < value < 100:
        raise CliError(Exit.USAGE, f"--target is per cent between 0 and 100, such as 99.5, not {text!r}.")
    return round(value * 10_000)


def _seen(session: Session, objective: str) -> dict[str, str]:
    return {"If-Match": f'"{session.client.get("objectives", objective)["revision"]}"'}


def _left(one: dict[str, Any]) -> str:
    left = one["budget_remaining"]
    return "-" if left is None else f"{100 * left:.1f} %"


def _gone(one: dict[str, Any]) -> str:
    seconds = one["seconds_to_exhaustion"]
    if one["budget_remaining"] is None:
        return "-"
    return "lasts" if seconds is None else "gone" if seconds == 0 else f"{seconds / 3600:.1f} h"


def _show(found: dict[str, Any]) -> None:
    names = ("id", "endpoint", "name", "sentence", "scope", "is_enabled", "runbook_url", "revision")
    factors = [f"{name} {factor:.4g}" for name, factor in found["factors"].items()]
    show_facts({**{name: found[name] for name in names}, "tiers": factors})


def _show_replay(found: dict[str, Any]) -> None:
    say(f"{found['sentence']}: {found['bad']:,} bad of {found['requests']:,} requests since {found['since']}.")
    rows = [
        (tier["name"], tier["severity"], f"{tier['factor']:.4g}", tier["fired"], _delays(tier),
         "under the floor" if tier["is_under_floor"] else "")
        for tier in found["tiers"]
    ]  # fmt: skip
    show_rows(("tier", "severity", "factor", "fired", "told after", ""), rows)


def _delays(tier: dict[str, Any]) -> str:
    return ", ".join(f"{one['detected_after_seconds'] // 60} min" for one in tier["episodes"][-5:]) or "-"
