"""`pilothouse image`: the container image of a version, for pipelines and people."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import httpx
import typer

from cli.client import Client, _error, _problem
from cli.exits import CliError, Exit
from cli.output import say, show_facts, show_rows
from cli.registry import Key, Model, Output, Version
from cli.session import session_of

commands = typer.Typer(no_args_is_help=True)
Base = Annotated[str | None, typer.Option(help="The image below: a tag other than latest, or a digest.")]
From = Annotated[
    str | None,
    typer.Option("--model-from", help="registry (fetched while building), folder (you put it in), later (not in it)."),
]


@commands.command("show")
def image_show(context: typer.Context, model: Model, version: Version, output: Output = None) -> None:
    """Show the recorded image of a version, and what to know before building one."""
    session = session_of(context, output)
    found = session.client.get("models", model, "versions", version, "image")
    names = ("model", "version", "image", "artifact_digest", "base", "model_from", "warnings")
    session.show(found, lambda: show_facts({name: found[name] for name in names}))


@commands.command("dockerfile")
def image_dockerfile(
    context: typer.Context, model: Model, version: Version, base: Base = None, model_from: From = None
) -> None:
    """Print the Dockerfile of a version; warnings go to stderr."""
    found = _image(context, model, version, base, model_from)
    typer.echo(found["dockerfile"], nl=False)


@commands.command("pipeline")
def image_pipeline(
    context: typer.Context,
    model: Model,
    version: Version,
    system: Annotated[str, typer.Argument(help="github or gitlab")],
    endpoint: Annotated[str | None, typer.Option(help="What to roll out at the end.")] = None,
    base: Base = None,
    model_from: From = None,
) -> None:
    """Print a CI pipeline that builds, pushes, records and rolls out."""
    if system not in {"github", "gitlab"}:
        raise CliError(Exit.USAGE, f"{system!r} is neither github nor gitlab.")
    typer.echo(_image(context, model, version, base, model_from, endpoint=endpoint)[system], nl=False)


@commands.command("context")
def image_context(
    context: typer.Context,
    model: Model,
    version: Version,
    to: Annotated[Path, typer.Option("--to", help="A folder that is made; it must be empty if it is there.")],
    base: Base = None,
    model_from: From = None,
) -> None:
    """Write the folder that the image is built in."""
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise CliError(Exit.USAGE, f"{to} is there already and not empty.")
    client = session_of(context).client
    place = ("models", model, "versions", version, "image", "context")
    content = _download(client, place, {"base": base, "model_from": model_from})
    to.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
            tar.extractall(to, filter="data")
    except (tarfile.TarError, OSError) as error:
        raise CliError(Exit.FAILED, f"The folder cannot be written to {to}: {error}") from error
    say(f"Build it with: docker buildx build … {to}")


@commands.command("record")
def image_record(
    context: typer.Context,
    model: Model,
    version: Version,
    image: Annotated[str, typer.Argument(help='registry/name@sha256:…, as the push printed it; "" forgets it.')],
    output: Output = None,
) -> None:
    """Record the image of a version: clusters run it from the next rollout on."""
    session = session_of(context, output)
    found = session.client.put("models", model, "versions", version, "image", body={"image": image})
    session.show(found, lambda: show_facts({name: found[name] for name in ("model", "version", "image")}))


@commands.command("build")
def image_build(
    context: typer.Context,
    model: Model,
    version: Version,
    target: Annotated[str, typer.Option(help="The target whose cluster builds.")],
    base: Base = None,
    idempotency_key: Key = None,
    output: Output = None,
) -> None:
    """Build the image in a target's cluster; `pilothouse image builds` follows it."""
    session = session_of(context, output)
    body = {"target": target, **({"base": base} if base else {})}
    found = session.client.post("models", model, "versions", version, "image", "builds", body=body, key=idempotency_key)
    session.show(found, lambda: show_facts({name: found[name] for name in ("id", "state", "image", "target")}))


@commands.command("builds")
def image_builds(context: typer.Context, model: Model, version: Version, output: Output = None) -> None:
    """List the builds of a version's image, newest first."""
    session = session_of(context, output)
    found = list(session.client.pages("models", model, "versions", version, "image", "builds"))
    columns = ("id", "state", "target", "image", "digest", "reason")
    session.show(found, lambda: show_rows(columns, [[one[name] for name in columns] for one in found]))


def _download(client: Client, place: tuple[str, ...], query: dict[str, str | None]) -> bytes:
    """Raises CliError."""
    address = "/".join(quote(part, safe="") for part in place)
    params = {name: value for name, value in query.items() if value is not None}
    try:
        answer = client._http.get(address, params=params, headers={"Accept": "application/gzip, application/json"})
    except httpx.TransportError as error:
        raise CliError(Exit.FAILED, f"{client.url} does not answer: {error or type(error).__name__}") from error
    if not answer.is_success:
        raise _error(answer.status_code, _problem(answer), answer.headers.get("X-Request-ID"))
    return answer.content


def _image(
    context: typer.Context, model: str, version: str, base: str | None, model_from: str | None, **query: Any
) -> dict[str, Any]:
    client = session_of(context).client
    found = client.get("models", model, "versions", version, "image", base=base, model_from=model_from, **query)
    for warning in found["warnings"]:
        say(warning)
    return found
