"""`pilothouse sequence …`: one version to several endpoints, wave after wave."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.client import Client
from cli.exits import CliError, Exit
from cli.output import say, show_facts, show_rows
from cli.registry import Output
from cli.rollout import (
    Approval,
    KeepWaiting,
    Key,
    Note,
    PlanFile,
    Profile,
    Reason,
    Revision,
    Strategy,
    Timeout,
    plan_given,
)
from cli.session import Session, session_of
from cli.watch import end_wait

commands = typer.Typer(no_args_is_help=True)
POLL_SECONDS = 3.0
DAY = 24 * 3600.0
Waves = Annotated[
    list[str], typer.Option("--wave", "-w", help="Endpoints of one wave, separated by commas; once per wave.")
]
Bake = Annotated[str, typer.Option(help='Seconds between two waves, or "person": until one continues.')]
OnFailure = Annotated[
    str, typer.Option(help="stop; roll-back: what is through goes back too; roll-back-wave: of it that wave only.")
]
ApproveOnce = Annotated[bool, typer.Option("--approve-once", help="One approval for the whole sequence.")]
AtATime = Annotated[int | None, typer.Option("--max-concurrent", min=1, help="So many endpoints of a wave at a time.")]


@commands.command("plan")
def plan(
    context: typer.Context,
    version: str,
    wave: Waves,
    bake: Bake = "0",
    on_failure: OnFailure = "stop",
    max_concurrent: AtATime = None,
    strategy: Strategy = "canary",
    profile: Profile = "standard",
    file: PlanFile = None,
    approval: Approval = None,
    approve_once: ApproveOnce = False,
    output: Output = None,
) -> None:
    """Plan and check every member; changes nothing."""
    session = session_of(context, output)
    body = _body(version, wave, bake, on_failure, max_concurrent, strategy, profile) | _own(
        file, approval, approve_once
    )
    found = session.client.post("rollout-sequences", body=body, dry_run=True)
    session.show(found, lambda: _show_plan(found))
    if not found["is_startable"]:
        raise CliError(Exit.REFUSED, "This sequence would be refused; see the checks.")


@commands.command("start")
def start(
    context: typer.Context,
    version: str,
    wave: Waves,
    bake: Bake = "0",
    on_failure: OnFailure = "stop",
    max_concurrent: AtATime = None,
    strategy: Strategy = "canary",
    profile: Profile = "standard",
    file: PlanFile = None,
    approval: Approval = None,
    approve_once: ApproveOnce = False,
    note: Note = "",
    plan_hash: Annotated[str | None, typer.Option(help="Start exactly this plan, or nothing (exit code 7).")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it to its end.")] = False,
    timeout: Timeout = DAY,
    keep_waiting: KeepWaiting = False,
    idempotency_key: Key = None,
    output: Output = None,
) -> None:
    """Start a sequence; with --wait the exit code says how it ended."""
    session = session_of(context, output)
    body = _body(version, wave, bake, on_failure, max_concurrent, strategy, profile) | _own(
        file, approval, approve_once
    )
    body |= {"note": note} if note else {}
    body |= {"expected_plan_hash": plan_hash} if plan_hash is not None else {}
    found = session.client.post("rollout-sequences", body=body, key=idempotency_key)
    say(f"Sequence {found['id']} has started: {session.client.url}{found['links']['page']}")
    if wait:
        _follow(session, found["id"], timeout, keep_waiting)
    else:
        _show(session, found)


@commands.command("status")
def status(context: typer.Context, sequence_id: str, output: Output = None) -> None:
    """Show one sequence with its members."""
    session = session_of(context, output)
    _show(session, session.client.get("rollout-sequences", sequence_id))


@commands.command("list")
def sequence_list(
    context: typer.Context,
    phase: Annotated[str | None, typer.Option(help="In this phase only.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 20,
    output: Output = None,
) -> None:
    """List sequences, newest first."""
    session = session_of(context, output)
    found = session.client.get("rollout-sequences", phase=phase, limit=limit)["items"]
    rows = [
        (one["id"], one["model"], one["version"], one["phase"], f"{one['wave'] + 1}/{len(one['waves'])}", one["reason"])
        for one in found
    ]
    session.show(found, lambda: show_rows(("id", "model", "version", "phase", "wave", "reason"), rows))


@commands.command("watch")
def watch(
    context: typer.Context,
    sequence_id: str,
    timeout: Timeout = DAY,
    keep_waiting: KeepWaiting = False,
    output: Output = None,
) -> None:
    """Follow a sequence to its end and say why it waits."""
    _follow(session_of(context, output), sequence_id, timeout, keep_waiting)


@commands.command("pause")
def pause(
    context: typer.Context, sequence_id: str, reason: Reason = "", expected_revision: Revision = None,
    output: Output = None,
) -> None:  # fmt: skip
    """Nothing more starts; members under way pause, guardrails go on."""
    _command(session_of(context, output), sequence_id, "pause", reason, expected_revision)


@commands.command("resume")
def resume(
    context: typer.Context, sequence_id: str, reason: Reason = "", expected_revision: Revision = None,
    output: Output = None,
) -> None:  # fmt: skip
    """Go on; after a stop, members that failed are tried again."""
    _command(session_of(context, output), sequence_id, "resume", reason, expected_revision)


@commands.command("continue")
def continue_(
    context: typer.Context, sequence_id: str, reason: Reason = "", expected_revision: Revision = None,
    output: Output = None,
) -> None:  # fmt: skip
    """Begin the next wave; in the middle of a bake it needs a reason."""
    _command(session_of(context, output), sequence_id, "continue", reason, expected_revision)


@commands.command("abort")
def abort(
    context: typer.Context,
    sequence_id: str,
    reason: Reason = "",
    roll_back: Annotated[
        bool, typer.Option("--roll-back", help="Members that are through go back too, newest first.")
    ] = False,
    output: Output = None,
) -> None:
    """End it: members under way go back. Never loses a race."""
    session = session_of(context, output)
    body = {"reason": reason, "roll_back": roll_back}
    _show(session, session.client.post("rollout-sequences", sequence_id, "abort", body=body))


def _body(
    version: str, waves: list[str], bake: str, on_failure: str, at_a_time: int | None, strategy: str, profile: str
) -> dict[str, Any]:
    groups = [[name.strip() for name in wave.split(",") if name.strip()] for wave in waves]
    if not all(groups):
        raise CliError(Exit.USAGE, "--wave names no endpoint; write --wave alpha,bravo.")
    body: dict[str, Any] = {
        "version": version,
        "waves": [{"endpoints": group, "bake_seconds": _seconds(bake)} for group in groups],
        "strategy": strategy,
        "profile": profile,
        "on_failure": on_failure.replace("-", "_"),
    }
    return body | ({"max_concurrent": at_a_time} if at_a_time is not None else {})


def _seconds(bake: str) -> int | None:
    if bake == "person":
        return None
    if not bake.isdecimal():
        raise CliError(Exit.USAGE, f'--bake is a whole number of seconds or "person", not {bake!r}.')
    return int(bake)


def _own(file: Path | None, approval: int | None, approve_once: bool) -> dict[str, Any]:
    """Steps and guardrails of one's own, and people to approve."""
    own: dict[str, Any] = {"approve_once": True} if approve_once else {}
    return own | plan_given(file, approval, "steps, guardrails or both")


def _command(session: Session, sequence_id: str, name: str, reason: str, revision: int | None) -> None:
    if revision is None:
        revision = session.client.get("rollout-sequences", sequence_id)["revision"]
    body = {"reason": reason, "expected_revision": revision}
    _show(session, session.client.post("rollout-sequences", sequence_id, name, body=body))


def exit_of_sequence(phase: str) -> Exit:
    """How a finished sequence ends a wait."""
    match phase:
        case "completed":
            return Exit.OK
        case "rolled_back" | "aborted":
            return Exit.WENT_BACK
        case _:
            return Exit.FAILED


def sequence_watch(
    client: Client, sequence_id: str, *, timeout_seconds: float, stops_for_person: bool = True
) -> tuple[dict[str, Any], Exit]:
    """Says every change of phase, wave, member or reason; returns the last sight of it and how to end."""

    def look(before: dict[str, Any] | None, left: float) -> dict[str, Any]:
        if before is not None:
            time.sleep(min(POLL_SECONDS, left))
        return client.get("rollout-sequences", sequence_id)

    return end_wait(
        client, look, say_news=_say_news, exit_of=exit_of_sequence, timeout_seconds=timeout_seconds,
        stops_for_person=stops_for_person,
    )  # fmt: skip


def _say_news(found: dict[str, Any], said: tuple[Any, ...]) -> tuple[Any, ...]:
    members = tuple((one["endpoint"], _state(one)) for wave in found["waves"] for one in wave["members"])
    news = (found["phase"], found["wave"], members, found["reason"])
    if news != said:
        states = ", ".join(f"{name} {state}" for name, state in members)
        say(f"{found['phase']}, wave {found['wave'] + 1}/{len(found['waves'])} ({states}): {found['reason']}")
    return news


def _state(member: dict[str, Any]) -> str:
    if member["way_back_phase"]:
        return f"going back, {member['way_back_phase']}"
    if member["phase"] is None:
        return "not begun"
    return f"{member['phase']} {member['weight_bp'] / 100:g} %"


def _follow(session: Session, sequence_id: str, timeout: float, keep_waiting: bool) -> None:
    found, code = sequence_watch(
        session.client, sequence_id, timeout_seconds=timeout, stops_for_person=not keep_waiting
    )
    _show(session, found)
    if code is not Exit.OK:
        raise typer.Exit(code)


def _show(session: Session, found: dict[str, Any]) -> None:
    session.show(found, lambda: _show_sequence(found))


def _show_sequence(found: dict[str, Any]) -> None:
    show_facts(
        {
            "sequence": found["id"],
            "version": f"{found['model']} {found['version']}",
            "phase": found["phase"],
            "wave": f"{found['wave'] + 1} of {len(found['waves'])}",
            "on failure": found["on_failure"].replace("_", " "),
            "reason": found["reason"],
            "engine error": (found["engine_error"] or {}).get("detail"),
            "possible": found["allowed_actions"],
            "revision": found["revision"],
        }
    )
    rows = [
        (index + 1, one["endpoint"], one["environment"], _state(one), one["rollout"], one["left"] or one["reason"])
        for index, wave in enumerate(found["waves"])
        for one in wave["members"]
    ]
    show_rows(("wave", "endpoint", "environment", "state", "rollout", "reason"), rows)


def _show_plan(found: dict[str, Any]) -> None:
    show_facts({"version": f"{found['model']} {found['version']}", "plan_hash": found["plan_hash"]})
    rows = []
    for index, wave in enumerate(found["waves"]):
        bake = "a person" if wave["bake_seconds"] is None else f"{wave['bake_seconds']} s"
        after = "the end" if index == len(found["waves"]) - 1 else bake
        rows += [(index + 1, one["endpoint"], one["stable_version"], after) for one in wave["members"]]
    show_rows(("wave", "endpoint", "over", "then"), rows)
    for wave in found["waves"]:
        for member in wave["members"]:
            for check in member["checks"]:
                if check["level"] != "pass":
                    typer.echo(f"{check['level']}: {check['detail']}")
