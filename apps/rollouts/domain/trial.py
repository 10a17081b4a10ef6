"""An experiment step: what its newest readout means for the rollout. Pure.

The verdict is the readout's (apps/experiments, ``kernel.stats.decision``); here it becomes an action. What goes back
does so in every phase of the step, ``paused`` included; what goes on does so from ``gating`` alone, and only while the
target is seen and telemetry flows.
"""

from __future__ import annotations

from apps.experiments.domain.words import COLLECTING, ENDED
from apps.kernel.stats.decision import DecisionKind
from apps.rollouts.domain.forward import people_words
from apps.rollouts.domain.machine import AskForReview, Hold, Pause, RollBack
from apps.rollouts.domain.plan import Inconclusive
from apps.rollouts.domain.state import ExperimentSeen, RolloutState, Seen


def harm(state: RolloutState, seen: Seen) -> str | None:
    """Why the newest readout says to go back, in its words; None when it does not."""
    found = seen.experiment
    if found is None or not state.is_measuring or found.kind != DecisionKind.ROLL_BACK:
        return None
    return f"the experiment says roll back: {said(found)}"


def trial_answer(state: RolloutState, seen: Seen) -> str | Hold | Pause | AskForReview | RollBack:
    """What the experiment of the current step says; text, the reason to go on, when it says ship."""
    found = seen.experiment
    if found is None:
        return Hold(f"step {state.step + 1} waits for its experiment")
    if found.status in ENDED:
        return Pause(f"the experiment was ended from elsewhere, a person decides: {found.note or found.status}")
    if found.kind == DecisionKind.SHIP:
        return f"the experiment says ship: {said(found)}"
    if found.kind == DecisionKind.BLOCKED:
        return Pause(f"the experiment is blocked and gives no verdict, a person decides: {said(found)}")
    if found.kind == DecisionKind.STOP_INCONCLUSIVE:
        return _inconclusive(state, f"the experiment is inconclusive: {said(found)}")
    if is_over_horizon(state, seen.now):
        horizon = state.plan.steps[state.step].horizon_seconds
        return _inconclusive(state, f"the experiment is inconclusive after {horizon} s: {progress(found)}")
    return Hold(progress(found))


def is_over_horizon(state: RolloutState, now: float) -> bool:
    """Whether the current step has lasted as long as it may, by the calendar."""
    here = state.here
    if here is None or here.horizon_seconds is None or state.step_started_at is None:
        return False
    return now - state.step_started_at >= here.horizon_seconds


def is_readout_due(state: RolloutState, seen: Seen) -> bool:
    """Whether a readout is to be asked for now: it runs, none is under way, the last was long enough ago."""
    found, here = seen.experiment, state.here
    if found is None or here is None or not state.is_measuring or found.status not in COLLECTING or found.is_asked:
        return False
    since = found.asked_at if found.asked_at is not None else state.step_started_at or state.phase_started_at
    return seen.now - since >= (here.look_seconds or 0)


def ends_as(state: RolloutState, seen: Seen, *, is_forward: bool) -> DecisionKind | None:
    """What the experiment is decided as when its step is left; None where it ends without a verdict of its own."""
    found = seen.experiment
    if found is None or seen.request is not None or not found.readout_id:
        return None
    if is_forward:  # approved after a review: people shipped what proved nothing
        return DecisionKind.SHIP if found.kind == DecisionKind.SHIP or state.is_at_approval else None
    if found.kind in {DecisionKind.ROLL_BACK, DecisionKind.STOP_INCONCLUSIVE}:
        return DecisionKind(found.kind)
    return DecisionKind.STOP_INCONCLUSIVE if is_over_horizon(state, seen.now) else None


def said(found: ExperimentSeen) -> str:
    """The readout's own reasons, with which look they are from."""
    return f"{'; '.join(found.reasons)} (look {found.number})"


def progress(found: ExperimentSeen) -> str:
    """ "experiment: 4,120 of 27,828 units, about 9 days left"."""
    if found.error:
        return f"experiment: its newest readout failed ({found.error}); another one is asked for"
    if not found.number:
        return "experiment: waits for its first readout"
    days = "" if found.days_left is None else f", about {found.days_left} day{'' if found.days_left == 1 else 's'} left"
    return f"experiment: {found.units:,} of {found.planned:,} units{days}"


def _inconclusive(state: RolloutState, reason: str) -> AskForReview | RollBack:
    step = state.plan.steps[state.step]
    if step.on_inconclusive is Inconclusive.ASK:
        return AskForReview(f"{reason}; {people_words(step.quorum or 1)} must decide whether it goes on", state.step)
    return RollBack(f"{reason}; {state.stable_version} stays")
