"""What holds for every state and every sight."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from apps.experiments.domain.words import Status
from apps.kernel.canonical import canonical_json
from apps.kernel.stats.decision import DecisionKind
from apps.kernel.verdicts import Verdict
from apps.rollouts.domain.advance import advance, remember
from apps.rollouts.domain.decide import decide, findings
from apps.rollouts.domain.machine import (
    TERMINAL,
    Fail,
    Hold,
    Outcome,
    Phase,
    RollBack,
    Settle,
    Supersede,
    action_json,
)
from apps.rollouts.domain.plan import FULL_BP, Inconclusive, Plan, StepKind, Strategy
from apps.rollouts.domain.state import (
    Command,
    Counts,
    ExperimentSeen,
    Memo,
    Policy,
    Request,
    ReviewSeen,
    RolloutState,
    RouteSeen,
    Seen,
    Traffic,
    VariantSeen,
)
from apps.rollouts.domain.strategies import PROFILES, approval_step, build_plan
from apps.rollouts.domain.wanted import wanted
from tests.rollouts.worlds import BY_USER, NOW, trial

ages = st.floats(0, 10_000, allow_nan=False)
moments = ages.map(lambda age: NOW - age)
TRIALS = (trial(), trial(BY_USER, on_inconclusive=Inconclusive.ASK), trial(horizon_seconds=600))
plans = st.builds(
    lambda strategy, profile, asks, step: build_plan(
        strategy,
        profile=profile,
        approval=approval_step() if asks and strategy is not Strategy.SHADOW else None,
        experiment=step if strategy is Strategy.AB else None,
    ),
    st.sampled_from(Strategy),
    st.sampled_from(PROFILES),
    st.booleans(),
    st.sampled_from(TRIALS),
)
trials = st.builds(
    ExperimentSeen,
    id=st.just("ex_1"),
    status=st.sampled_from(Status).map(str),
    readout_id=st.sampled_from(["", "rd_1"]),
    inputs_hash=st.just("sha256:inputs"),
    number=st.integers(0, 9),
    kind=st.sampled_from(["", *(kind.value for kind in DecisionKind)]),
    reasons=st.just(("slow: +0.01 (between -0.02 and +0.04)",)),
    units=st.integers(0, 5_000),
    planned=st.just(4_000),
    days_left=st.none() | st.integers(0, 30),
    error=st.sampled_from(["", "", "broken"]),
)
reviews = st.builds(
    ReviewSeen,
    id=st.sampled_from(["rv_1", "rv_2"]),
    state=st.sampled_from(["open", "approved", "rejected", "expired", "voided", "withdrawn"]),
    plan_hash=st.sampled_from([build_plan(Strategy.CANARY, approval=approval_step()).plan_hash, "sha256:other"]),
    evidence_hash=st.sampled_from(["sha256:seen", "sha256:other"]),
    said=st.just("Ana"),
)
variants = st.builds(
    lambda is_ready, state: VariantSeen("ready" if is_ready else state, is_ready, ""),
    st.booleans(),
    st.sampled_from(["starting", "unready", "failed", "absent"]),
)
traffics = st.builds(
    Traffic,
    weighted=st.integers(0, 100_000),
    probes=st.integers(0, 100_000),
    newest_at=st.none() | moments,
    weighted_newest_at=st.none() | moments,
)


@st.composite
def counted(draw: st.DrawFn, key: str) -> Counts:
    total = draw(st.integers(0, 5_000))
    surely = draw(st.integers(0, total))
    return Counts(key, surely, draw(st.integers(surely, total)), total)


@st.composite
def sights(draw: st.DrawFn, *, with_request: bool = True) -> Seen:
    request = st.builds(Request, st.sampled_from(Command), st.just("Olga"), st.just("because"))
    maybe = st.sampled_from(["", "", "", "something"])
    return Seen(
        now=NOW,
        target_error=draw(maybe),
        telemetry_error=draw(maybe),
        route=draw(st.builds(RouteSeen, st.booleans(), st.just("not yet"), maybe)),
        stable=draw(variants),
        candidate=draw(variants),
        stable_traffic=draw(traffics),
        candidate_traffic=draw(traffics),
        counts=(draw(counted("error_rate")), draw(counted("slow_share:0.5"))),
        recent_counts=(draw(counted("error_rate")), draw(counted("slow_share:0.5"))),
        policy=draw(st.sampled_from(Policy)),
        freeze=draw(maybe),
        busy_with=draw(maybe),
        blocked=draw(maybe),
        review=draw(st.none() | reviews),
        experiment=draw(st.none() | trials),
        request=draw(st.none() | request) if with_request else None,
    )


@st.composite
def states(draw: st.DrawFn) -> RolloutState:
    plan: Plan = draw(plans)
    phase = draw(st.sampled_from(Phase))
    step = draw(st.integers(-1, len(plan.steps) - 1))
    if phase is Phase.GATING:
        kinds = {StepKind.GATE, StepKind.EXPERIMENT}
        gates = [index for index, one in enumerate(plan.steps) if one.kind in kinds]
        step = gates[0] if gates else step
        phase = phase if gates else Phase.SHIFTING
    if phase is Phase.BAKING:
        pauses = [index for index, one in enumerate(plan.steps) if one.kind is StepKind.PAUSE]
        step, phase = (pauses[0], phase) if pauses else (step, Phase.SHIFTING)
    if phase is Phase.WAITING and draw(st.booleans()):
        asking = [index for index, one in enumerate(plan.steps) if one.asks_people]
        step = asking[0] if asking else step
    if phase in {Phase.PENDING, Phase.PREPARING}:
        step = -1
    moves = {StepKind.SET_WEIGHT, StepKind.EXPERIMENT}
    began = [one for one in plan.steps[: step + 1] if one.kind in moves]
    weight_bp = (began[-1].route_weight_bp or 0) if began else 0
    is_back = phase is Phase.ROLLING_BACK
    return RolloutState(
        id="ro_1", endpoint="late-arrival", phase=phase, step=step, revision=draw(st.integers(1, 99)), plan=plan,
        stable="v1-0-0", candidate="v1-1-0", stable_version="1.0.0", candidate_version="1.1.0",
        weight_bp=0 if is_back else weight_bp, mirror_bp=draw(st.sampled_from([0, 10_000])),
        phase_started_at=draw(moments), step_started_at=draw(st.none() | moments),
        memo=Memo(
            unready_since=draw(st.none() | moments), blind_since=draw(st.none() | moments),
            blind_seconds=draw(ages), baked_seconds=draw(ages), is_released=draw(st.booleans()),
            outcome=draw(st.sampled_from(Outcome)) if is_back else None,
            review_id=draw(st.sampled_from(["", "rv_1"])), evidence_hash="sha256:seen",
        ),
    )  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(states(), sights())
def test_decide_answers_everything_and_what_it_answers_is_legal(state: RolloutState, seen: Seen) -> None:
    known = remember(state, seen)
    action = decide(known, seen)
    assert action.reason
    if not isinstance(action, Hold):
        after = advance(known, action, seen.now)  # raises IllegalTransition where the table has no row
        assert after.revision == state.revision + 1
        assert after.phase is Phase.PENDING or wanted(after) is not None


@settings(max_examples=400, deadline=None)
@given(states(), sights())
def test_with_a_failing_guardrail_traffic_never_moves_forward(state: RolloutState, seen: Seen) -> None:
    known = remember(state, seen)
    action = decide(known, seen)
    is_failing = any(finding.verdict is Verdict.FAIL for finding in findings(known, replace(seen, request=None)))
    if is_failing and not isinstance(action, Hold):
        after = advance(known, action, seen.now)
        assert after.weight_bp <= state.weight_bp
        assert after.phase not in {Phase.PROMOTING, Phase.PROMOTED, Phase.COMPLETED}


@settings(max_examples=600, deadline=None)
@given(states(), sights())
def test_nothing_passes_an_approval_step_but_an_approval_of_this_plan_and_evidence(
    state: RolloutState, seen: Seen
) -> None:
    if state.phase is not Phase.WAITING or not state.is_at_approval:
        return
    known = remember(state, seen)
    action = decide(known, seen)
    if isinstance(action, Hold):
        return
    after = advance(known, action, seen.now)
    if after.step > state.step or after.phase in {Phase.PROMOTING, Phase.COMPLETED}:
        review = seen.review
        assert review is not None
        asked = ("approved", state.memo.review_id, state.plan.plan_hash, state.memo.evidence_hash)
        assert (review.state, review.id, review.plan_hash, review.evidence_hash) == asked


@settings(max_examples=600, deadline=None)
@given(states(), sights())
def test_nothing_leaves_an_experiment_forward_but_its_readout_or_people(state: RolloutState, seen: Seen) -> None:
    if not state.is_measuring or seen.request is not None:
        return
    known = remember(state, seen)
    action = decide(known, seen)
    if isinstance(action, Hold):
        return
    after = advance(known, action, seen.now)
    if after.step > state.step or after.phase in {Phase.PROMOTING, Phase.COMPLETED}:
        is_shipped = state.phase is Phase.GATING and seen.experiment is not None and seen.experiment.kind == "ship"
        is_approved = state.phase is Phase.WAITING and seen.review is not None and seen.review.state == "approved"
        assert is_shipped or is_approved
    if seen.experiment is not None and seen.experiment.kind == "roll_back":
        assert after.weight_bp <= state.weight_bp
        assert after.step == state.step


@settings(max_examples=300, deadline=None)
@given(states(), sights())
def test_arms_are_wanted_in_their_step_alone_and_never_beside_failover(state: RolloutState, seen: Seen) -> None:
    wish = wanted(state)
    arms = dict(wish.arms) if wish is not None else {}
    assert bool(arms) == state.has_arms
    if arms and wish is not None:
        assert (arms["control"], arms["treatment"]) == (state.stable, state.candidate)
        assert (wish.weights_bp, wish.failover_to) == ({state.stable: FULL_BP}, None)


@settings(max_examples=400, deadline=None)
@given(states(), sights())
def test_weight_falls_only_by_going_back(state: RolloutState, seen: Seen) -> None:
    known = remember(state, seen)
    action = decide(known, seen)
    if isinstance(action, Hold):
        return
    after = advance(known, action, seen.now)
    if after.weight_bp < state.weight_bp:
        assert isinstance(action, RollBack | Supersede | Settle | Fail)


@settings(max_examples=300, deadline=None)
@given(states(), sights())
def test_the_weights_wanted_of_an_endpoint_always_sum_to_all(state: RolloutState, seen: Seen) -> None:
    wish = wanted(state)
    if wish is not None:
        assert sum(wish.weights_bp.values()) == FULL_BP
        assert set(wish.weights_bp) <= set(wish.roles)


@settings(max_examples=300, deadline=None)
@given(states(), sights())
def test_state_sight_and_decision_survive_storage_byte_for_byte(state: RolloutState, seen: Seen) -> None:
    known = remember(state, seen)
    stored = [canonical_json(part.to_json()) for part in (known, seen)]
    again, seen_again = RolloutState.from_json(json.loads(stored[0])), Seen.from_json(json.loads(stored[1]))
    assert (again, seen_again) == (known, seen)
    assert canonical_json(action_json(decide(again, seen_again))) == canonical_json(action_json(decide(known, seen)))


@settings(max_examples=60, deadline=None)
@given(plans, st.lists(sights(with_request=False), max_size=10), st.sampled_from([Command.ABORT, Command.ROLL_BACK]))
def test_from_wherever_it_got_to_a_person_can_bring_it_to_an_end(
    plan: Plan, worlds: list[Seen], command: Command
) -> None:
    state = RolloutState(
        "ro_1", "late-arrival", Phase.PENDING, -1, 1, plan, "v1-0-0", "v1-1-0", "1.0.0", "1.1.0", 0, 0, NOW
    )
    at = NOW
    for world in worlds:
        at += 3_600
        seen = replace(world, now=at)
        state = remember(state, seen)
        action = decide(state, seen)
        state = state if isinstance(action, Hold) else advance(state, action, at)
    ready = VariantSeen("ready", is_ready=True)
    well = Seen(now=at, route=RouteSeen(is_applied=True), stable=ready, candidate=ready)
    for seen in (well.with_request(Request(command, "Olga")), replace(well, now=at + 3_600)):
        action = decide(state, seen)
        state = state if isinstance(action, Hold) else advance(state, action, seen.now)
    assert state.phase in TERMINAL
