"""`pilothouse webhook`: addresses that are told what happens, and their messages."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from cli.exits import CliError, Exit
from cli.output import say, show_facts, show_rows
from cli.registry import Key, Output
from cli.session import Session, session_of

commands = typer.Typer(invoke_without_command=True)
Webhook = Annotated[str, typer.Argument(help="The webhook's name or id (ws_…).")]
State = Annotated[str | None, typer.Option(help="waiting, delivered or given_up.")]
LOOK_SECONDS = 0.5


@commands.callback()
def webhooks_default(context: typer.Context, output: Output = None) -> None:
    """Webhooks: addresses that are told what happens. Without a command, their list."""
    if context.invoked_subcommand is None:
        webhook_list(context, output)


@commands.command("list")
def webhook_list(context: typer.Context, output: Output = None) -> None:
    """List the webhooks of the teams that you administer."""
    session = session_of(context, output)
    found = list(session.client.pages("webhooks"))
    columns = ("id", "name", "team", "state", "events", "url")
    session.show(found, lambda: show_rows(columns, [[one[name] for name in columns] for one in found]))


@commands.command("create")
def webhook_create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What it is called.")],
    url: Annotated[str, typer.Argument(help="https://host/…; must be public unless an operator opened it.")],
    event: Annotated[list[str], typer.Option(help="rollout.failed, or rollout.* for all; may be repeated.")],
    environment: Annotated[list[str] | None, typer.Option(help="Only there; may be repeated.")] = None,
    team: Annotated[str, typer.Option(help="Whose events; needed where you administer several.")] = "",
    output: Output = None,
) -> None:
    """Tell an address of events; prints the signing secret, this once."""
    session = session_of(context, output)
    body = {"name": name, "url": url, "events": event, "environments": environment or [], "team": team}
    found = session.client.post("webhooks", body=body)
    names = ("id", "name", "team", "url", "events", "secret")
    session.show(found, lambda: show_facts({name: found[name] for name in names}))
    say("Keep the secret now: it is not shown again.")


@commands.command("messages")
def webhook_messages(context: typer.Context, webhook: Webhook, state: State = None, output: Output = None) -> None:
    """List the newest 200 messages: what came of each, and when the next attempt is."""
    session = session_of(context, output)
    found = session.client.get("webhooks", _id_of(session, webhook), "deliveries", limit=200, state=state)["items"]
    columns = ("id", "event", "state", "attempts", "answer", "next try")
    rows = [
        (one["id"], one["event"], one["state"], one["attempts"], one["last_error"] or one["response_status"],
         one["due_at"]) for one in found
    ]  # fmt: skip
    session.show(found, lambda: show_rows(columns, rows))


@commands.command("test")
def webhook_test(
    context: typer.Context,
    webhook: Webhook,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the outcome; 0: do not wait.")] = 30.0,
    idempotency_key: Key = None,
    output: Output = None,
) -> None:
    """Send a test message and wait for its outcome; exit code 1 when it did not get through."""
    session = session_of(context, output)
    hook = _id_of(session, webhook)
    found = session.client.post("webhooks", hook, "test", body={}, key=idempotency_key)
    _follow(session, hook, found, timeout)


@commands.command("resend")
def webhook_resend(
    context: typer.Context,
    webhook: Webhook,
    message: Annotated[str, typer.Argument(help="The message's id (msg_…).")],
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the outcome; 0: do not wait.")] = 30.0,
    idempotency_key: Key = None,
    output: Output = None,
) -> None:
    """Send a message again, under its old id; exit code 1 when it did not get through."""
    session = session_of(context, output)
    hook = _id_of(session, webhook)
    found = session.client.post("webhooks", hook, "deliveries", message, "redeliver", body={}, key=idempotency_key)
    _follow(session, hook, found, timeout)


@commands.command("rotate")
def webhook_rotate(context: typer.Context, webhook: Webhook, output: Output = None) -> None:
    """Make a new secret and print it, this once; the old one signs too for 24 hours."""
    session = session_of(context, output)
    found = session.client.post("webhooks", _id_of(session, webhook), "rotate", body={})
    session.show(found, lambda: show_facts({name: found[name] for name in ("id", "secret", "previous_secret_until")}))


@commands.command("remove")
def webhook_remove(context: typer.Context, webhook: Webhook) -> None:
    """Stop telling the address, and forget its messages."""
    client = session_of(context).client
    hook = _id_of(session_of(context), webhook)
    client.delete("webhooks", hook, headers={"If-Match": f'"{client.get("webhooks", hook)["revision"]}"'})
    say(f"{webhook} has been removed.")


def _follow(session: Session, hook: str, found: dict[str, Any], timeout: float) -> None:
    """Until the first attempt is over; the server goes on trying by itself after that."""
    deadline = time.monotonic() + timeout
    while found["state"] == "waiting" and not found["last_error"] and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
        found = _message(session, hook, found["id"])
    names = ("id", "event", "state", "attempts", "response_status", "last_error", "due_at")
    session.show(found, lambda: show_facts({name: found[name] for name in names}))
    if found["last_error"]:
        raise CliError(Exit.FAILED, f"{found['id']} did not get through: {found['last_error']}")
    if found["state"] == "waiting" and timeout:
        raise CliError(Exit.TIMED_OUT, f"{found['id']} has no outcome after {timeout:g} s; the server goes on.")


def _message(session: Session, hook: str, message: str) -> dict[str, Any]:
    """One message, looked for from the newest on."""
    for one in session.client.pages("webhooks", hook, "deliveries"):
        if one["id"] == message:
            return one
    raise CliError(Exit.FAILED, f"The message {message} is gone: its webhook was removed, or it was sent long ago.")


def _id_of(session: Session, webhook: str) -> str:
    """An id as it is; a name by looking through the list."""
    if webhook.startswith("ws_"):
        return webhook
    found = [one for one in session.client.pages("webhooks") if one["name"] == webhook]
    if len(found) == 1:
        return str(found[0]["id"])
    if not found:
        raise CliError(Exit.FAILED, f"There is no webhook {webhook}, or you may not see it.")
    teams = ", ".join(f"{one['team']} {one['id']}" for one in found)
    raise CliError(Exit.USAGE, f"Several teams have a webhook {webhook}; say which by its id: {teams}.")
