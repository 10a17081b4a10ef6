"""Which buttons a rollout has now, and why the others cannot be pressed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from django.http import HttpRequest

from apps.accounts.web_access import actor_of_request
from apps.rollouts.domain.machine import TERMINAL, Phase
from apps.rollouts.models import Rollout
from apps.rollouts.selectors import WENT_BACK, allowed_commands, review_of
from apps.targets.services.scope import why_not_at

_RETRY: Final = "Retry with the same plan"


@dataclass(frozen=True, slots=True)
class Button:
    """``look`` is primary, danger or empty; ``ask`` opens a panel with that text and a reason before it is sent;
    ``means`` is what it does, for a place where the rollout's own page does not stand around it ("": not shown there).
    """

    command: str
    word: str
    look: str = ""
    why_not: str = ""
    ask: str = ""
    means: str = ""
    is_reason_required: bool = False


def buttons_of(request: HttpRequest, rollout: Rollout) -> list[Button]:
    """Running: pause or resume, promote, abort, roll back. Ended: acknowledge that it went back, retry, or roll back to
    the version before."""
    actor = actor_of_request(request)
    return buttons_for(rollout, lambda action: why_not_at(actor, action, rollout.endpoint))


def buttons_for(rollout: Rollout, who_not: Callable[[str], str]) -> list[Button]:
    """The same; ``who_not`` says of an action why those who look may not do it, "" where they may."""
    refusals = {item.command: "" if item.is_allowed else item.reason for item in allowed_commands(rollout)}
    return [
        replace(button, why_not=who_not(f"rollout.{button.command}") or refusals[button.command])
        for button in _wanted(rollout)
    ]


def _wanted(rollout: Rollout) -> list[Button]:
    stable, candidate = rollout.stable_version.semver, rollout.candidate_version.semver
    if rollout.phase == Phase.PROMOTED:
        way = f"A new rollout brings {stable} back: it must come up first."
        return [Button("roll_back", f"Roll back to {stable}", "danger", ask=way, means=way)]
    if rollout.phase in WENT_BACK and rollout.acknowledged_at is None:
        known = f"You know that {candidate} went back; traffic stays on {stable}."
        return [
            Button("acknowledge", "Acknowledge", "primary", means=known),
            Button("retry", _RETRY),
        ]
    if rollout.phase in TERMINAL:
        return [Button("retry", _RETRY)]
    is_halted = rollout.phase == Phase.PAUSED or (rollout.phase == Phase.WAITING and not review_of(rollout))
    promise = (
        f"{candidate} gets all traffic now. The rest of the plan is skipped; guardrails go on until {stable} has left."
    )
    share = f"{rollout.weight_bp / 100:g} %"
    onward = f"The plan goes on from {candidate} at {share}."
    kept = f"keeps its {share}" if rollout.weight_bp else "stays without a share of the traffic"
    halt = f"{candidate} {kept}; guardrails go on and may still roll back."
    back = f"{stable} gets all traffic again within seconds; {candidate} leaves after its last request."
    if rollout.phase == Phase.ROLLING_BACK:  # its share is 0 again, which is no beginning
        halt = back = f"It goes back already: {stable} gets all traffic; {candidate} leaves after its last request."
    return [
        Button("resume", "Resume", "primary", means=onward) if is_halted else Button("pause", "Pause", means=halt),
        Button("promote", f"Promote {candidate}", ask=promise, means=promise, is_reason_required=True),
        Button("abort", "Abort", ask=f"{stable} gets all traffic again and this rollout ends as aborted."),
        Button("roll_back", f"Roll back to {stable}", "danger", means=back),
    ]
