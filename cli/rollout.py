"""`pilothouse rollout …`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.exits import CliError, Exit
from cli.output import say, show_facts, show_rows
from cli.registry import Output, read_json
from cli.session import Session, session_of
from cli.watch import rollout_watch

commands = typer.Typer(no_args_is_help=True)
Strategy = Annotated[str, typer.Option(help="canary, blue_green, shadow, recreate or ab (its experiment by -f).")]
Profile = Annotated[str, typer.Option(help="standard, or fast for trying out.")]
PlanFile = Annotated[
    Path | None, typer.Option("-f", "--file", help="A JSON file with steps, guardrails or the experiment of your own.")
]
Note = Annotated[str, typer.Option(help="Why; stays with the rollout.")]
Timeout = Annotated[float, typer.Option(help="Seconds to wait; the rollout itself goes on.", min=0)]
KeepWaiting = Annotated[bool, typer.Option("--keep-waiting", help="Do not end when a person has to go on.")]
Approval = Annotated[
    int | None, typer.Option(min=1, help="So many people must approve before 100 %; never who starts it.")
]
KeepWarm = Annotated[
    int | None, typer.Option(min=0, help="Seconds that the old version stays up after the promotion, without traffic.")
]
Reason = Annotated[str, typer.Option(help="Why; stays in the log.")]
Revision = Annotated[int | None, typer.Option(help="The revision you decided on; the newest where it is missing.")]
StepSeen = Annotated[int | None, typer.Option(help="The step you decided on; the newest where it is missing.")]
Key = Annotated[str | None, typer.Option(help="For a CI job that may run twice.")]
TWO_HOURS_AND_MORE = 3 * 3600.0


@commands.command("plan")
def plan(
    context: typer.Context,
    endpoint: str,
    version: str,
    strategy: Strategy = "canary",
    profile: Profile = "standard",
    file: PlanFile = None,
    approval: Approval = None,
    keep_warm: KeepWarm = None,
    note: Note = "",
    output: Output = None,
) -> None:
    """Show what a rollout would do and what is in its way; changes nothing."""
    session = session_of(context, output)
    body = _body(endpoint, version, strategy, profile, file, note, approval) | _warm(keep_warm)
    found = session.client.post("rollouts", body=body, dry_run=True)
    session.show(found, lambda: _show_plan(found))
    if not found["is_startable"]:
        raise CliError(Exit.REFUSED, "This rollout would be refused; see the checks.")


@commands.command("start")
def start(
    context: typer.Context,
    endpoint: str,
    version: str,
    strategy: Strategy = "canary",
    profile: Profile = "standard",
    file: PlanFile = None,
    approval: Approval = None,
    keep_warm: KeepWarm = None,
    note: Note = "",
    plan_hash: Annotated[str | None, typer.Option(help="Start exactly this plan, or nothing (exit code 7).")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it to its end.")] = False,
    timeout: Timeout = TWO_HOURS_AND_MORE,
    keep_waiting: KeepWaiting = False,
    idempotency_key: Key = None,
    output: Output = None,
) -> None:
    """Start a rollout; with --wait the exit code says how it ended."""
    session = session_of(context, output)
    body = _body(endpoint, version, strategy, profile, file, note, approval) | _warm(keep_warm)
    if plan_hash is not None:
        body["expected_plan_hash"] = plan_hash
    found = session.client.post("rollouts", body=body, key=idempotency_key)
    say(f"Rollout {found['id']} has started: {session.client.url}{found['links']['page']}")
    if wait:
        _follow(session, found["id"], timeout, keep_waiting)
    else:
        _show(session, found)


@commands.command("status")
def status(context: typer.Context, rollout_id: str, output: Output = None) -> None:
    """Show one rollout."""
    session = session_of(context, output)
    _show(session, session.client.get("rollouts", rollout_id))


@commands.command("list")
def rollout_list(
    context: typer.Context,
    endpoint: Annotated[str | None, typer.Option(help="Of this endpoint only.")] = None,
    phase: Annotated[str | None, typer.Option(help="In these phases only, separated by commas.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 20,
    output: Output = None,
) -> None:
    """List rollouts, newest first."""
    session = session_of(context, output)
    found = session.client.get("rollouts", endpoint=endpoint, phase=phase, limit=limit)["items"]
    rows = [(one["id"], one["endpoint"], one["candidate_version"], one["phase"], one["reason"][:70]) for one in found]
    session.show(found, lambda: show_rows(("id", "endpoint", "candidate", "phase", "reason"), rows))


@commands.command("watch")
def watch(
    context: typer.Context,
    rollout_id: str,
    timeout: Timeout = TWO_HOURS_AND_MORE,
    keep_waiting: KeepWaiting = False,
    output: Output = None,
) -> None:
    """Follow a rollout to its end and say why it waits."""
    _follow(session_of(context, output), rollout_id, timeout, keep_waiting)


@commands.command("pause")
def pause(
    context: typer.Context,
    rollout_id: str,
    reason: Reason = "",
    expected_revision: Revision = None,
    expected_step: StepSeen = None,
    output: Output = None,
) -> None:
    """Stop moving forward; traffic stays as it is, guardrails go on."""
    _command(session_of(context, output), rollout_id, "pause", reason, expected_revision, expected_step)


@commands.command("resume")
def resume(
    context: typer.Context,
    rollout_id: str,
    reason: Reason = "",
    expected_revision: Revision = None,
    expected_step: StepSeen = None,
    output: Output = None,
) -> None:
    """Go on after a pause."""
    _command(session_of(context, output), rollout_id, "resume", reason, expected_revision, expected_step)


@commands.command("promote")
def promote(
    context: typer.Context,
    rollout_id: str,
    reason: Annotated[str, typer.Option(help="Why the rest is skipped; required.")],
    expected_revision: Revision = None,
    expected_step: StepSeen = None,
    output: Output = None,
) -> None:
    """All traffic to the candidate now; the rest of the plan is skipped."""
    _command(session_of(context, output), rollout_id, "promote", reason, expected_revision, expected_step)


@commands.command("abort")
def abort(context: typer.Context, rollout_id: str, reason: Reason = "", output: Output = None) -> None:
    """End it: stable gets all traffic again. Never loses a race."""
    _command(session_of(context, output), rollout_id, "abort", reason, None, None, is_safe=True)


@commands.command("roll-back")
def roll_back(context: typer.Context, rollout_id: str, reason: Reason = "", output: Output = None) -> None:
    """Stable gets all traffic again; after a promotion, a new rollout brings the version before back."""
    _command(session_of(context, output), rollout_id, "roll-back", reason, None, None, is_safe=True)


commands.command("rollback", hidden=True)(roll_back)  # both spellings are in use


@commands.command("acknowledge")
def acknowledge(context: typer.Context, rollout_id: str, reason: Reason = "", output: Output = None) -> None:
    """Say that you know it went back: it leaves the list of those that need somebody, and nothing else changes."""
    _command(session_of(context, output), rollout_id, "acknowledge", reason, None, None, is_safe=True)


@commands.command("retry")
def retry(
    context: typer.Context,
    rollout_id: str,
    reason: Reason = "",
    expected_revision: Revision = None,
    expected_step: StepSeen = None,
    output: Output = None,
) -> None:
    """A new attempt with the same plan."""
    _command(session_of(context, output), rollout_id, "retry", reason, expected_revision, expected_step)


def _body(
    endpoint: str, version: str, strategy: str, profile: str, file: Path | None, note: str, approval: int | None
) -> dict[str, Any]:
    body: dict[str, Any] = {"endpoint": endpoint, "version": version, "strategy": strategy, "profile": profile}
    if note:
        body["note"] = note
    return body | plan_given(file, approval, "steps, guardrails or an experiment")


def plan_given(file: Path | None, approval: int | None, holds: str) -> dict[str, Any]:
    """The parts of a plan that the file brings, and how many people must approve."""
    found: dict[str, Any] = {}
    if file is not None:
        own = read_json(file)
        if not isinstance(own, dict):
            raise CliError(Exit.USAGE, f"{file} must hold a JSON object with {holds}.")
        found |= own
    return found | ({"approval": {"quorum": approval}} if approval is not None else {})


def _warm(seconds: int | None) -> dict[str, Any]:
    return {} if seconds is None else {"keep_warm_seconds": seconds}


def _command(
    session: Session,
    rollout_id: str,
    name: str,
    reason: str,
    revision: int | None,
    step: int | None,
    *,
    is_safe: bool = False,
) -> None:
    body: dict[str, Any] = {"reason": reason}
    if not is_safe:
        seen = session.client.get("rollouts", rollout_id) if revision is None or step is None else {}
        body["expected_revision"] = seen["revision"] if revision is None else revision
        body["expected_step"] = seen["step"] if step is None else step
    _show(session, session.client.post("rollouts", rollout_id, name, body=body))


def _follow(session: Session, rollout_id: str, timeout: float, keep_waiting: bool) -> None:
    found, code = rollout_watch(session.client, rollout_id, timeout_seconds=timeout, stops_for_person=not keep_waiting)
    _show(session, found)
    if code is not Exit.OK:
        raise typer.Exit(code)


def _show(session: Session, found: dict[str, Any]) -> None:
    session.show(found, lambda: _show_rollout(found))


def _show_rollout(found: dict[str, Any]) -> None:
    share = found["weights"]["candidate"]
    show_facts(
        {
            "rollout": found["id"],
            "endpoint": found["endpoint"],
            "versions": f"{found['stable_version']} -> {found['candidate_version']}",
            "strategy": found["strategy"],
            "phase": found["phase"],
            "step": f"{found['step'] + 1} of {found['step_count']}",
            "candidate": f"{share['percent']:g} % wanted",
            "reason": found["reason"],
            **({"experiment": experiment.rsplit("/", 1)[-1]} if (experiment := found["links"]["experiment"]) else {}),
            "findings": [f"{item['verdict']}: {item['reason']}" for item in found["findings"]],
            "possible": found["allowed_actions"],
            "revision": found["revision"],
        }
    )


def _show_plan(found: dict[str, Any]) -> None:
    show_facts(
        {
            "endpoint": found["endpoint"],
            "versions": f"{found['stable_version']} -> {found['candidate_version']}",
            "strategy": found["plan"]["strategy"],
            "plan_hash": found["plan_hash"],
        }
    )
    show_rows(
        ("step", "what", "requests", "time"),
        [(one["index"] + 1, one["sentence"], one["requests_needed"], _seconds(one)) for one in found["forecast"]],
    )
    for one in found["forecast"]:
        if one["sizing"]:
            typer.echo(f"step {one['index'] + 1}: {_sizing(one['sizing'])}")
    for gate in found["plan"]["guardrails"]:
        typer.echo(f"guardrail: {_gate(gate)}")
    for check in found["checks"]:
        typer.echo(f"{check['level']}: {check['detail']}")


def _sizing(sized: dict[str, Any]) -> str:
    days = "" if sized["days"] is None else f", {sized['days']} days"
    units, power = f"{sized['planned_total']:,} {sized['unit']}s", f"{sized['power_at_plan'] * 100:.0f} %"
    return f"{units} over both arms{days}; power {power} for {sized['effect']:+.4g}"


def _seconds(step: dict[str, Any]) -> str:
    return "unknown" if step["expected_seconds"] is None else f"{step['expected_seconds']:.0f} s"


def _gate(gate: dict[str, Any]) -> str:
    over = "" if gate["threshold_seconds"] is None else f" over {gate['threshold_seconds'] * 1000:g} ms"
    return f"{gate['name']}: {gate['metric']}{over}, limit {gate['limit']:g}"
