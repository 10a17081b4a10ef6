"""`pilothouse import`: copy the registry of an MLflow server, and follow how far it is."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.client import Client, read_token
from cli.exits import CliError, Exit
from cli.output import Format, say, show_facts
from cli.session import session_of

POLL_SECONDS = 1.0
FINISHED = {"done": Exit.OK, "failed": Exit.FAILED, "stopped": Exit.WENT_BACK}


def import_registry(
    context: typer.Context,
    url: Annotated[str, typer.Argument(help="The MLflow server, for example https://mlflow.example.com.")],
    team: Annotated[str, typer.Option(help="Who will own the models: a team's slug.")] = "",
    username: Annotated[str, typer.Option(help="For a server with Basic authentication.")] = "",
    credential_file: Annotated[
        Path | None, typer.Option(help="A file with the server's token or password; kept sealed, never shown.")
    ] = None,
    credential: Annotated[str | None, typer.Option(envvar="PILOTHOUSE_IMPORT_CREDENTIAL", hidden=True)] = None,
    with_artifacts: Annotated[
        bool,
        typer.Option("--with-artifacts/--without-artifacts", help="Bring the files along, to be deployed."),
    ] = True,
    sync_seconds: Annotated[int, typer.Option(min=0, help="Repeat so often, to keep in step; 0: once.")] = 0,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Start it and end at once.")] = False,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait for the end of the run.")] = 3600.0,
    output: Annotated[Format | None, typer.Option("-o", "--output", help="How results are printed.")] = None,
) -> None:
    """Copy models, versions, aliases, tags and files from an MLflow server; run again it writes what differs.

    Exit codes: 0 copied (versions that stayed without their files are named), 1 failed, 3 somebody stopped it,
    5 not finished in time (it goes on).
    """
    session = session_of(context, output)
    body: dict[str, Any] = {"url": url, "team": team, "username": username, "with_artifacts": with_artifacts}
    body["sync_seconds"] = sync_seconds
    if credential is not None or credential_file is not None:
        body["credential"] = read_token(credential, credential_file)
    job = _started(session.client, body)
    code = Exit.OK
    if not no_wait:
        job, code = _followed(session.client, job, time.monotonic() + timeout)
    session.show(job, lambda: _show(job))
    if code is not Exit.OK:
        raise CliError(code, _sentence(job, code))


def _started(client: Client, body: dict[str, Any]) -> dict[str, Any]:
    """The import from that server: a new one, or the one that is there, run once more."""
    try:
        return client.post("imports", body=body)
    except CliError as fault:
        if fault.problem.get("code") != "import_exists":
            raise
        known = [one for one in client.pages("imports") if one["url"] == body["url"].rstrip("/")]
        if not known:
            raise
    say(f"{known[0]['url']} was imported from before ({known[0]['id']}): what differs is written.")
    try:
        return client.post("imports", known[0]["id"], "run", body={"with_artifacts": body["with_artifacts"]})
    except CliError as fault:
        if fault.problem.get("code") != "import_running":
            raise
        return client.get("imports", known[0]["id"])


def _followed(client: Client, job: dict[str, Any], deadline: float) -> tuple[dict[str, Any], Exit]:
    """Says every change until the run is over; a run that was asked for and not begun is still the old one's state."""
    said = ""
    while True:
        news = _progress(job)
        if news != said:
            say(news)
            said = news
        if job["state"] in FINISHED and not (job["state"] == "done" and job["files"]["waiting"]):
            return job, FINISHED[job["state"]]
        if time.monotonic() >= deadline:
            return job, Exit.TIMED_OUT
        time.sleep(POLL_SECONDS)
        job = client.get("imports", job["id"])


def _progress(job: dict[str, Any]) -> str:
    counts = job["counts"]
    told = (
        f"{job['state']}: {counts['models']} models, {counts['versions']} versions, {counts['written']} new or changed"
    )
    told += f", {counts['skipped']} left out" if counts["skipped"] else ""
    files = job["files"]
    if files["waiting"]:
        told += f", files of {files['here']} versions here, {files['waiting']} still come"
    return f"{told} ({job['error']})" if job["error"] else told


def _sentence(job: dict[str, Any], code: Exit) -> str:
    match code:
        case Exit.TIMED_OUT:
            return f"Not finished in time; it goes on as {job['id']}: run the same command again to follow it."
        case Exit.WENT_BACK:
            return "Somebody stopped it. Run the same command again to go on."
        case _:
            return f"The import failed: {job['error']}"


def _show(job: dict[str, Any]) -> None:
    files = job["files"]
    show_facts(
        {name: job[name] for name in ("id", "url", "team", "state")}
        | {"models": job["counts"]["models"], "versions": job["counts"]["versions"]}
        | {"new or changed": job["counts"]["written"], "left out": job["counts"]["skipped"]}
        | {"versions with files": files["here"], "versions without": files["missing"]}
    )
    for one in job["skipped"]:
        say(f"{one['model']}: {one['reason']}")
    _show_left(files)


def _show_left(files: dict[str, Any]) -> None:
    for one in files["left"]:
        say(f"{one['model']} {one['version']} is here without its files: {one['reason']}")
    if files["missing"] > len(files["left"]):
        say(f"and {files['missing'] - len(files['left'])} more versions without their files")
    if files["way_out"]:
        say(files["way_out"])
