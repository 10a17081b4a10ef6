"""`pilothouse experiment …`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.exits import CliError, Exit
from cli.output import say, show_facts, show_rows
from cli.registry import Output, read_json
from cli.session import session_of

commands = typer.Typer(no_args_is_help=True)
Reason = Annotated[str, typer.Option(help="Why; stays in the log.")]
NOT_YET = {"keep_running": Exit.NEEDS_PERSON, "blocked": Exit.REFUSED}


@commands.command("plan")
def plan(
    context: typer.Context,
    endpoint: str,
    version: str,
    file: Annotated[Path, typer.Option("-f", "--file", help="A JSON file with the design.", exists=True)],
    name: Annotated[str, typer.Option(help="What it is called.")] = "",
    units_per_day: Annotated[float | None, typer.Option(help="Eligible units a day, over both arms.")] = None,
    store: Annotated[bool, typer.Option("--store", help="Keep it as a planned experiment, ready to start.")] = False,
    output: Output = None,
) -> None:
    """Say what a design costs: units, days, power; with --store it can then be started."""
    session = session_of(context, output)
    design, traffic = read_json(file), {} if units_per_day is None else {"units_per_day": units_per_day}
    if not store:
        found = session.client.post("experiments", "size", body={"endpoint": endpoint, "design": design, **traffic})
        session.show(found, lambda: _show_size(found))
        return
    body = {"name": name or f"{endpoint} {version}", "endpoint": endpoint, "version": version, "design": design}
    made = session.client.post("experiments", body=body)
    planned = session.client.post("experiments", made["id"], "plan", body=traffic)
    say(f"Experiment {made['id']} is planned.")
    session.show(planned["experiment"], lambda: _show(planned["experiment"]))


@commands.command("start")
def start(context: typer.Context, experiment_id: str, reason: Reason = "", output: Output = None) -> None:
    """Take the endpoint's traffic and split it."""
    session = session_of(context, output)
    found = session.client.post("experiments", experiment_id, "start", body={"reason": reason})
    session.show(found, lambda: _show(found))


@commands.command("status")
def status(context: typer.Context, experiment_id: str, output: Output = None) -> None:
    """Show one experiment and what its newest readout says."""
    session = session_of(context, output)
    found = session.client.get("experiments", experiment_id)
    looks = session.client.get("experiments", experiment_id, "readouts", limit=1)["items"]
    session.show({**found, "readout": looks[0] if looks else None}, lambda: _show(found, looks[0] if looks else None))


@commands.command("list")
def experiment_list(
    context: typer.Context,
    endpoint: Annotated[str | None, typer.Option(help="At this endpoint only.")] = None,
    output: Output = None,
) -> None:
    """List experiments, newest first."""
    session = session_of(context, output)
    found = session.client.get("experiments", endpoint=endpoint)["items"]
    rows = [(one["id"], one["name"], one["endpoint"], one["control"], one["treatment"], one["status"]) for one in found]
    columns = ("id", "name", "endpoint", "control", "treatment", "status")
    session.show(found, lambda: show_rows(columns, rows))


@commands.command("stop")
def stop(context: typer.Context, experiment_id: str, reason: Reason, output: Output = None) -> None:
    """End it without a verdict: all traffic to the stable version."""
    session = session_of(context, output)
    found = session.client.post("experiments", experiment_id, "stop", body={"reason": reason})
    session.show(found, lambda: _show(found))


@commands.command("decide")
def decide(
    context: typer.Context,
    experiment_id: str,
    kind: Annotated[
        str | None, typer.Option(help="ship, roll_back or stop_inconclusive; what the numbers say where it is missing.")
    ] = None,
    reason: Reason = "",
    output: Output = None,
) -> None:
    """Decide from the newest readout. Without --kind it ends with 4 while the numbers say to keep running, with 8 while
    the experiment's health forbids a verdict."""
    session = session_of(context, output)
    looks = [
        one
        for one in session.client.get("experiments", experiment_id, "readouts", limit=20)["items"]
        if one["state"] == "done"
    ]
    if not looks:
        raise CliError(Exit.CONFLICT, "Nothing was read yet: ask for a readout first.")
    chosen = kind or looks[0]["kind"]
    if kind is None and chosen in NOT_YET:
        reasons = "; ".join(looks[0]["result"]["decision"]["reasons"])
        raise CliError(NOT_YET[chosen], f"{chosen.replace('_', ' ')}: {reasons}")
    body = {"kind": chosen, "readout": looks[0]["id"], "reason": reason}
    found = session.client.post("experiments", experiment_id, "decide", body=body)
    session.show(found, lambda: show_facts({"decision": found["kind"], "because": found["reasons"]}))


def _show_size(found: dict[str, Any]) -> None:
    sizing = found["sizing"]
    show_facts(
        {
            "units": f"{sizing['planned_total']:,} over both arms",
            "for the power": f"{sizing['total']:,}",
            "power at that": f"{sizing['power_at_plan']:.3f}",
            "days": sizing["days"],
            "because": sizing["days_formula"],
            "looks cost": f"{sizing['looks_factor']['value']:.4g} times",
            "split costs": f"{sizing['split_cost']['value']:.4g} times",
            "formula": sizing["one_look"]["recipe"]["formula"],
            "in R": sizing["one_look"]["recipe"]["r"],
        }
    )


def _show(found: dict[str, Any], look: dict[str, Any] | None = None) -> None:
    said = (look or {}).get("result", {}).get("decision", {})
    show_facts(
        {
            "id": found["id"],
            "name": found["name"],
            "endpoint": found["endpoint"],
            "arms": f"{found['control']} against {found['treatment']}",
            "status": found["status"],
            "note": found["note"],
            "planned units": found["planned_total"],
            "units so far": (look or {}).get("units"),
            "numbers say": said.get("kind"),
            "because": said.get("reasons"),
            "decision": found["decision"],
        }
    )
