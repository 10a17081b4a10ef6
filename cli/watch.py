"""Following one rollout to the end of a wait: its own terminal phase, a person's turn, or the time."""

from __future__ import annotations

import time
from typing import Any

from cli.client import Client
from cli.exits import Exit, exit_of_phase
from cli.output import say

POLL_SECONDS = 5
"""One long poll. A reason ("waits for telemetry") can change without a new revision, so it is not the full 30 s."""


def rollout_watch(
    client: Client, rollout_id: str, *, timeout_seconds: float, stops_for_person: bool = True
) -> tuple[dict[str, Any], Exit]:
    """Says every change of phase, weight or reason; returns the last sight of it and how to end.

    1. the rollout's own phase is terminal: by that phase; 2. only a person can go on: NEEDS_PERSON;
    3. the time is over: TIMED_OUT, the rollout goes on. The endpoint's health is never asked: it belongs to others too.
    """
    deadline = time.monotonic() + timeout_seconds
    said: tuple[Any, ...] = ()
    rollout = client.get("rollouts", rollout_id)
    while True:
        said = _say_news(rollout, said)
        if rollout["is_finished"]:
            return rollout, exit_of_phase(rollout["phase"])
        if stops_for_person and rollout["needs_person"]:
            say(f"A person has to go on: {client.url}{rollout['links']['page']}")
            return rollout, Exit.NEEDS_PERSON
        left = deadline - time.monotonic()
        if left <= 0:
            say(f"Not finished in time; it goes on: {client.url}{rollout['links']['page']}")
            say(f"It waits because: {rollout['reason'] or 'nothing has been decided yet'}")
            return rollout, Exit.TIMED_OUT
        wait = max(1, min(POLL_SECONDS, int(left)))
        rollout = client.get("rollouts", rollout_id, wait_seconds=wait, after_revision=rollout["revision"])


def _say_news(rollout: dict[str, Any], said: tuple[Any, ...]) -> tuple[Any, ...]:
    share = rollout["weights"]["candidate"]
    news = (rollout["phase"], rollout["step"], share["weight_bp"], rollout["reason"])
    if news != said:
        place = f"step {rollout['step'] + 1}/{rollout['step_count']}" if rollout["step"] >= 0 else "before step 1"
        at = f"{rollout['phase']}, {place}, {share['version']} at {share['percent']:g} %"
        say(f"{at}: {rollout['reason']}" if rollout["reason"] else at)
    return news
