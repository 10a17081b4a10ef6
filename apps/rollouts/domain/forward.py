"""The next step forward, and re-entering the current one after it was verified."""

from __future__ import annotations

from typing import assert_never

from apps.rollouts.domain.advance import baked_seconds
from apps.rollouts.domain.machine import (
    Action,
    AskForReview,
    Bake,
    Conclude,
    Gate,
    Hold,
    Phase,
    Promote,
    Shift,
    Wait,
    is_possible,
)
from apps.rollouts.domain.plan import FULL_BP, Step, StepKind
from apps.rollouts.domain.state import RolloutState, Seen


def forward(state: RolloutState, seen: Seen, reason: str) -> Action:
    """Begin the step after the current one, or end the plan; a freeze window holds instead."""
    if seen.freeze:
        return Hold(f"{reason}; a freeze window is open: {seen.freeze}")
    index = state.step + 1
    if index >= len(state.plan.steps):
        return _end(state, reason)
    return begin(state, index, reason)


def step_again(state: RolloutState, seen: Seen, note: str = "") -> Action:
    """The current step's traffic is verified: go on inside it (its pause or gate) or to the next one."""
    kind = state.plan.steps[state.step].kind if state.step >= 0 else None
    verified = f"{note}{'arms' if state.has_arms else f'{state.weight_bp / 100:g} %'} verified at the target"
    if kind is StepKind.PAUSE and not state.memo.is_released:
        seconds = state.plan.steps[state.step].seconds
        if seconds is None or baked_seconds(state, seen.now) < seconds:
            return begin(state, state.step, verified)
    if kind in {StepKind.GATE, StepKind.APPROVAL, StepKind.EXPERIMENT}:
        return begin(state, state.step, verified)
    return forward(state, seen, verified)


def begin(state: RolloutState, index: int, reason: str) -> Action:
    step = state.plan.steps[index]
    place = f"step {index + 1} of {len(state.plan.steps)}"
    match step.kind:
        case StepKind.SET_WEIGHT | StepKind.MIRROR:
            return _shift(state, step, index, f"{reason}; {place}")
        case StepKind.PAUSE:
            if step.seconds is None:
                return Wait(f"{reason}; {place}: waits for a person", index)
            rest = max(0, round(step.seconds - (state.memo.baked_seconds if index == state.step else 0)))
            return Bake(f"{reason}; {place}: bakes {rest} s", index, rest)
        case StepKind.GATE:
            return Gate(f"{reason}; {place}: {', '.join(gate.name for gate in step.gates)} must pass", index)
        case StepKind.EXPERIMENT if index == state.step:
            return Gate(f"{reason}; {place}: an experiment decides", index)
        case StepKind.EXPERIMENT:
            return _split(state, step, index, f"{reason}; {place}")
        case StepKind.APPROVAL:
            return AskForReview(f"{reason}; {place}: {people_words(step.quorum or 1)} must approve", index)
        case _:
            assert_never(step.kind)


def people_words(count: int) -> str:
    """ "one person", "2 people": who must approve."""
    return "one person" if count == 1 else f"{count} people"


def _shift(state: RolloutState, step: Step, index: int, reason: str) -> Action:
    weight_bp = state.weight_bp if step.weight_bp is None else step.weight_bp
    mirror_bp = step.mirror_bp or 0
    if weight_bp < state.weight_bp:
        return Hold(f"the plan lowers the weight to {weight_bp / 100:g} %: only going back does that")
    copies = f", {mirror_bp / 100:g} % copied to it" if mirror_bp else ""
    return Shift(f"{reason}: {state.candidate_version} to {weight_bp / 100:g} %{copies}", index, weight_bp, mirror_bp)


def _split(state: RolloutState, step: Step, index: int, reason: str) -> Action:
    """Both arms of an experiment: by weight, or by what callers bring while the weight stays."""
    share = f"{(step.weight_bp or 0) / 100:g} %"
    if step.route_weight_bp is None and step.design is not None:
        unit = step.design.unit.value
        return Shift(f"{reason}: {share} of {unit}s to {state.candidate_version}, by their arm", index, state.weight_bp)
    return _shift(state, step, index, reason)


def _end(state: RolloutState, reason: str) -> Action:
    if state.weight_bp == FULL_BP and is_possible(state.phase, "Promote"):
        return Promote(f"{reason}; the plan is done: {state.candidate_version} becomes stable")
    if state.weight_bp == 0 and state.phase is not Phase.PREPARING:
        return Conclude(f"{reason}; the plan is done: {state.candidate_version} leaves, nothing was promoted")
    return Hold(f"{reason}; the plan ends at {state.weight_bp / 100:g} %, which neither promotes nor goes back")
