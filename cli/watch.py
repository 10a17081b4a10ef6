"""Following a rollout, or a sequence of them, to the end of a wait: its own end, a person's turn, or the time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from cli.client import Client
from cli.exits import Exit, exit_of_phase
from cli.output import say

POLL_SECONDS = 5
"""One long poll. A reason ("waits for telemetry") can change without a new revision, so it is not the full 30 s."""


def end_wait(
    client: Client,
    look: Callable[[dict[str, Any] | None, float], dict[str, Any]],
    *,
    say_news: Callable[[dict[str, Any], tuple[Any, ...]], tuple[Any, ...]],
    exit_of: Callable[[str], Exit],
    timeout_seconds: float,
    stops_for_person: bool,
) -> tuple[dict[str, Any], Exit]:
    """Looks again and again; returns the last sight and how to end.

    ``look(before, left)`` gets the next sight, None before the first, and may wait for news up to ``left`` seconds;
    ``say_news(found, said)`` says what is new since ``said`` and returns it.
    1. its own phase is terminal: ``exit_of`` that phase; 2. only a person can go on: NEEDS_PERSON;
    3. the time is over: TIMED_OUT, it goes on by itself.
    """
    deadline = time.monotonic() + timeout_seconds
    said: tuple[Any, ...] = ()
    found = look(None, timeout_seconds)
    while True:
        said = say_news(found, said)
        if found["is_finished"]:
            return found, exit_of(found["phase"])
        page = f"{client.url}{found['links']['page']}"
        if stops_for_person and found["needs_person"]:
            say(f"A person has to go on: {page}")
            return found, Exit.NEEDS_PERSON
        left = deadline - time.monotonic()
        if left <= 0:
            say(f"Not finished in time; it goes on: {page}")
            say(f"It waits because: {found['reason'] or 'nothing has been decided yet'}")
            return found, Exit.TIMED_OUT
        found = look(found, left)


def rollout_watch(
    client: Client, rollout_id: str, *, timeout_seconds: float, stops_for_person: bool = True
) -> tuple[dict[str, Any], Exit]:
    """Says every change of phase, weight or reason; returns the last sight of it and how to end. The endpoint's health
    is never asked: it belongs to others too."""

    def look(before: dict[str, Any] | None, left: float) -> dict[str, Any]:
        if before is None:
            return client.get("rollouts", rollout_id)
        wait = max(1, min(POLL_SECONDS, int(left)))
        return client.get("rollouts", rollout_id, wait_seconds=wait, after_revision=before["revision"])

    return end_wait(
        client, look, say_news=_say_news, exit_of=exit_of_phase, timeout_seconds=timeout_seconds,
        stops_for_person=stops_for_person,
    )  # fmt: skip


def _say_news(rollout: dict[str, Any], said: tuple[Any, ...]) -> tuple[Any, ...]:
    share = rollout["weights"]["candidate"]
    news = (rollout["phase"], rollout["step"], share["weight_bp"], rollout["reason"])
    if news != said:
        place = f"step {rollout['step'] + 1}/{rollout['step_count']}" if rollout["step"] >= 0 else "before step 1"
        at = f"{rollout['phase']}, {place}, {share['version']} wanted at {share['percent']:g} %"
        say(f"{at}: {rollout['reason']}" if rollout["reason"] else at)
    return news
