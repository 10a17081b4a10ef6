"""`pilothouse alerts`: what is wrong, taking it on, silencing, closing, waiting until it is over."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from cli.exits import CliError, Exit
from cli.output import say, show_facts, show_rows
from cli.registry import Key, Output
from cli.session import Session, session_of

commands = typer.Typer(invoke_without_command=True)
Alert = Annotated[str, typer.Argument(help="The alert's id (al_…).")]
Reason = Annotated[str, typer.Option(help="Why, for whoever looks next.")]
Severity = Annotated[str | None, typer.Option(help="page or ticket.")]
Environment = Annotated[str | None, typer.Option(help="development, staging or production.")]
Endpoint = Annotated[str | None, typer.Option("--endpoint", help="Only of this endpoint (or other subject).")]
Team = Annotated[str | None, typer.Option(help="Only of this team.")]
Source = Annotated[str | None, typer.Option(help="slo, rollouts, telemetry, alertmanager …")]
LOOK_SECONDS = 2.0
_SPAN = re.compile(r"(\d{1,6})(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@commands.callback()
def alerts_default(context: typer.Context, output: Output = None) -> None:
    """Alerts; without a command, what is open."""
    if context.invoked_subcommand is None:
        alert_list(context, output=output)


@commands.command("list")
def alert_list(
    context: typer.Context,
    state: Annotated[str, typer.Option(help="open, firing, acknowledged, resolved or all.")] = "open",
    severity: Severity = None,
    environment: Environment = None,
    endpoint: Endpoint = None,
    team: Team = None,
    source: Source = None,
    output: Output = None,
) -> None:
    """List alerts, the worst first. Ends with 0 whatever there is; `watch` is for jobs that wait."""
    session = session_of(context, output)
    query = {"severity": severity, "environment": environment, "subject": endpoint, "team": team, "source": source}
    found = _found(session, None if state == "all" else state, query)
    session.show(found, lambda: _show(found))


@commands.command("show")
def alert_show(context: typer.Context, alert: Alert, output: Output = None) -> None:
    """One alert: how bad, since when, what was done about it, who was told."""
    session = session_of(context, output)
    found = session.client.get("alerts", alert)
    session.show(found, lambda: _show_one(session, found))


@commands.command("ack")
def alert_ack(
    context: typer.Context,
    alert: Alert,
    reason: Reason = "",
    expected_revision: Annotated[int | None, typer.Option(help="The revision that you saw; else as it is now.")] = None,
    idempotency_key: Key = None,
    output: Output = None,
) -> None:
    """Say that you look after it: reminders end. Ends with 7 when it has changed since --expected-revision."""
    _command(context, output, alert, "acknowledge", {"reason": reason}, expected_revision, idempotency_key)


@commands.command("silence")
def alert_silence(
    context: typer.Context,
    alert: Alert,
    span: Annotated[str, typer.Option("--for", help="30m, 2h, 1d …; 0s lifts a silence.")],
    reason: Reason = "",
    expected_revision: Annotated[int | None, typer.Option(help="The revision that you saw; else as it is now.")] = None,
    idempotency_key: Key = None,
    output: Output = None,
) -> None:
    """No messages for a while, unless it gets worse or ends."""
    body = {"reason": reason, "seconds": _seconds(span)}
    _command(context, output, alert, "silence", body, expected_revision, idempotency_key)


@commands.command("resolve")
def alert_resolve(
    context: typer.Context,
    alert: Alert,
    reason: Annotated[str, typer.Option(help="What was wrong, or why it was not.")],
    expected_revision: Annotated[int | None, typer.Option(help="The revision that you saw; else as it is now.")] = None,
    idempotency_key: Key = None,
    output: Output = None,
) -> None:
    """Say that it is over. What fires on opens again after a quarter of an hour."""
    _command(context, output, alert, "resolve", {"reason": reason}, expected_revision, idempotency_key)


@commands.command("watch")
def alert_watch(
    context: typer.Context,
    severity: Severity = None,
    environment: Environment = None,
    endpoint: Endpoint = None,
    team: Team = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait until nothing is open; 0: look once.")] = 3600.0,
    output: Output = None,
) -> None:
    """Say every change until nothing that fits is open: 0 then, 5 when the time is over before."""
    session = session_of(context, output)
    query = {"severity": severity, "environment": environment, "subject": endpoint, "team": team}
    deadline = time.monotonic() + timeout
    found = _found(session, "open", query)
    known = _say_news({}, found)
    while found and time.monotonic() < deadline:
        time.sleep(min(LOOK_SECONDS, max(0.1, deadline - time.monotonic())))
        found = _found(session, "open", query)
        known = _say_news(known, found)
    session.show(found, lambda: _show(found))
    if found:
        raise CliError(Exit.TIMED_OUT, f"{len(found)} open, the worst: {found[0]['title']}")


def _found(session: Session, state: str | None, query: dict[str, str | None]) -> list[dict[str, Any]]:
    """Firing before acknowledged, pages before tickets, the newest change first."""
    states, severities = ("firing", "acknowledged", "resolved"), ("page", "ticket")
    found = sorted(session.client.pages("alerts", state=state, **query), key=lambda one: one["firing_since"])[::-1]
    return sorted(found, key=lambda one: (states.index(one["state"]), severities.index(one["severity"])))


def _command(
    context: typer.Context,
    output: Output,
    alert: str,
    verb: str,
    body: dict[str, Any],
    expected: int | None,
    key: str | None,
) -> None:
    session = session_of(context, output)
    seen = expected if expected is not None else session.client.get("alerts", alert)["revision"]
    found = session.client.post("alerts", alert, verb, body={**body, "expected_revision": seen}, key=key)
    session.show(found, lambda: _show([found]))


def _say_news(known: dict[str, tuple[str, str]], found: list[dict[str, Any]]) -> dict[str, tuple[str, str]]:
    now = {one["id"]: (one["state"], one["severity"]) for one in found}
    for one in found:
        if known.get(one["id"]) != now[one["id"]]:
            say(f"{one['severity']} {one['state']}: {one['title']}. {one['summary']}")
    for gone in sorted(known.keys() - now.keys()):
        say(f"over: {gone}")
    return now


def _show(found: list[dict[str, Any]]) -> None:
    columns = ("id", "severity", "state", "since", "subject", "title", "by")
    rows = [
        (one["id"], one["severity"], _state(one), one["opened_at"], one["subject"]["name"], one["title"],
         one["acknowledged_by"] or one["resolved_by"] or None) for one in found
    ]  # fmt: skip
    show_rows(columns, rows)


def _state(one: dict[str, Any]) -> str:
    until = one["silenced_until"]
    is_silent = until is not None and datetime.fromisoformat(until) > datetime.now(UTC)
    return f"{one['state']}, silenced" if is_silent and one["state"] != "resolved" else str(one["state"])


def _show_one(session: Session, found: dict[str, Any]) -> None:
    names = ("id", "title", "summary", "severity", "state", "team", "environment", "opened_at", "acknowledged_by",
             "silenced_until", "silence_reason", "resolved_at", "resolved_by", "runbook_url", "revision")  # fmt: skip
    show_facts({name: found[name] for name in names} | {"page": f"{session.client.url}{found['links']['page']}"})
    typer.echo("")
    rows = [(one["at"], one["kind"], one["by"] or "Pilothouse", one["told"], one["remark"]) for one in found["changes"]]
    show_rows(("at", "what", "by", "told", "remark"), rows)


def _seconds(span: str) -> int:
    found = _SPAN.fullmatch(span)
    if found is None:
        raise CliError(Exit.USAGE, f"--for {span}: say for example 30m, 2h or 1d.")
    return int(found[1]) * _SECONDS[found[2]]
