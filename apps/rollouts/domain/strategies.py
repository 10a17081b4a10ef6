"""The plans people start from: one function per strategy, two profiles, every number open to change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from apps.kernel.errors import InvalidInput
from apps.rollouts.domain.plan import FULL_BP, GateSpec, Metric, Plan, Step, StepKind, Strategy

STANDARD, FAST = "standard", "fast"
PROFILES = (STANDARD, FAST)


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of a profile. ``bakes``: the canary's pauses after 5, 25 and 50 %; ``window``: how long the old version
    waits after a blue-green switch; ``mirror``: how long requests are copied; ``warm``: how long the old version stays
    up after the promotion."""

    bakes: tuple[int, int, int]
    window: int
    mirror: int
    drain: int
    prepare: int
    inconclusive: int
    warm: int


TIMINGS = {
    STANDARD: Timing((900, 1800, 3600), window=1800, mirror=1800, drain=30, prepare=600, inconclusive=3600, warm=300),
    FAST: Timing((15, 20, 20), window=20, mirror=20, drain=10, prepare=300, inconclusive=900, warm=0),
}
DECIDE_SECONDS = 24 * 3600
CANARY_WEIGHTS_BP = (500, 2500, 5000)


def default_guardrails(
    *, error_limit: float = 0.01, slow_seconds: float = 0.5, slow_limit: float = 0.01
) -> tuple[GateSpec, ...]:
    """Errors under 1 % and "p99 under 500 ms", each as a share of requests."""
    return (
        GateSpec("error rate", Metric.ERROR_RATE, error_limit),
        GateSpec(f"over {slow_seconds * 1000:g} ms", Metric.SLOW_SHARE, slow_limit, slow_seconds),
    )


def build_plan(
    strategy: Strategy,
    *,
    profile: str = STANDARD,
    guardrails: Sequence[GateSpec] | None = None,
    steps: Sequence[Step] | None = None,
    approval: Step | None = None,
    experiment: Step | None = None,
    keep_warm_seconds: int | None = None,
) -> Plan:
    """The plan of ``strategy``; given ``steps`` replace the strategy's own. Raises InvalidInput at /profile, /approval,
    /experiment: the step that decides, for A/B, where it is not among ``steps``.

    ``keep_warm_seconds``: the profile's own where None, and none where there is nothing to keep. ``approval`` goes
    before the step to 100 %; for recreate, which begins with all traffic, behind everything.
    """
    if profile not in TIMINGS:
        raise InvalidInput.at("/profile", "unknown_profile", f"{profile!r} is none of {', '.join(PROFILES)}.")
    timing = TIMINGS[profile]
    rails = tuple(default_guardrails() if guardrails is None else guardrails)
    _need_experiment(strategy, experiment, is_own=steps is not None)
    own = tuple(steps) if steps is not None else steps_of(strategy, timing, rails, experiment)
    if approval is not None:
        own = _with_approval(strategy, own, approval, is_own=steps is not None)
    return Plan(
        strategy=strategy,
        steps=own,
        guardrails=rails,
        prepare_deadline_seconds=timing.prepare,
        inconclusive_deadline_seconds=timing.inconclusive,
        drain_seconds=timing.drain,
        keep_warm_seconds=_warm(strategy, timing) if keep_warm_seconds is None else keep_warm_seconds,
        declared_downtime=strategy is Strategy.RECREATE,
        profile=profile if steps is None else "",
    )


def _warm(strategy: Strategy, timing: Timing) -> int:
    """Recreate has stopped the old version before, and a shadow replaces none."""
    return timing.warm if strategy in {Strategy.CANARY, Strategy.BLUE_GREEN} else 0


def approval_step(quorum: int = 1, *, deadline_seconds: int | None = DECIDE_SECONDS) -> Step:
    """What the wizard proposes for production: a rejection rolls back, silence holds."""
    return Step(StepKind.APPROVAL, quorum=quorum, deadline_seconds=deadline_seconds)


def _need_experiment(strategy: Strategy, experiment: Step | None, *, is_own: bool) -> None:
    if experiment is not None and is_own:
        detail = "With steps of your own, write the experiment as one of them."
        raise InvalidInput.at("/experiment", "two_ways", detail)
    if experiment is not None and strategy is not Strategy.AB:
        detail = f"Only strategy ab is decided by an experiment, not {strategy.value}: leave it out."
        raise InvalidInput.at("/experiment", "not_here", detail)
    if experiment is None and strategy is Strategy.AB and not is_own:
        detail = "An A/B rollout is decided by an experiment: give its design."
        raise InvalidInput.at("/experiment", "required", detail)


def _with_approval(strategy: Strategy, steps: tuple[Step, ...], approval: Step, *, is_own: bool) -> tuple[Step, ...]:
    if is_own:
        raise InvalidInput.at("/approval", "two_ways", "With steps of your own, write the approval as one of them.")
    if strategy is Strategy.SHADOW:
        raise InvalidInput.at(
            "/approval", "nothing_to_approve", "A shadow moves no traffic: nothing is to be approved."
        )
    if strategy is Strategy.RECREATE:
        return (*steps, approval)
    full = next(index for index, step in enumerate(steps) if step.weight_bp == FULL_BP)
    return (*steps[:full], approval, *steps[full:])


def steps_of(
    strategy: Strategy, timing: Timing, rails: tuple[GateSpec, ...], experiment: Step | None = None
) -> tuple[Step, ...]:
    """The strategy's own steps. A pause proves only that nothing failed; a gate demands that everything passed."""
    gate = (Step(StepKind.GATE, gates=rails),) if rails else ()
    match strategy:
        case Strategy.CANARY:
            shifts = zip(CANARY_WEIGHTS_BP, timing.bakes, strict=True)
            ramp = tuple(step for weight, bake in shifts for step in (_weight(weight), _pause(bake)))
            return (*ramp, *gate, _weight(FULL_BP))
        case Strategy.BLUE_GREEN:
            return (_mirror(FULL_BP), _pause(timing.mirror), *gate, _weight(FULL_BP), _pause(timing.window))
        case Strategy.SHADOW:
            return (_mirror(FULL_BP), _pause(timing.mirror), *gate, _mirror(0))
        case Strategy.RECREATE:
            return (_weight(FULL_BP), _pause(timing.window))
        case Strategy.AB:
            return (*((experiment,) if experiment else ()), _weight(FULL_BP))


def _weight(weight_bp: int) -> Step:
    return Step(StepKind.SET_WEIGHT, weight_bp=weight_bp)


def _mirror(mirror_bp: int) -> Step:
    return Step(StepKind.MIRROR, mirror_bp=mirror_bp)


def _pause(seconds: int) -> Step:
    return Step(StepKind.PAUSE, seconds=seconds)
