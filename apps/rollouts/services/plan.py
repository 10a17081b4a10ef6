"""The dry run: everything the wizard and CI see before anything is started. Writes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from apps.kernel.actor import Actor
from apps.kernel.clock import now
from apps.kernel.errors import Conflict, FieldError, InvalidInput, PolicyRefused
from apps.kernel.stats.binomial import requests_needed
from apps.registry.domain.drop_in import ways_sentence
from apps.registry.selectors import drop_in_problems, drop_in_refusal, version_get
from apps.registry.services.verify import artifact_check, unverified_sentence
from apps.rollouts.domain.decide import SLOT_SECONDS
from apps.rollouts.domain.forward import people_words
from apps.rollouts.domain.machine import Phase
from apps.rollouts.domain.plan import FULL_BP, GateSpec, Plan, Step, StepKind, Strategy
from apps.rollouts.domain.strategies import STANDARD, build_plan
from apps.rollouts.domain.validate import plan_errors
from apps.rollouts.selectors import active_of
from apps.rollouts.services.approvers import approval_checks
from apps.rollouts.services.checks import Check, Level
from apps.rollouts.services.forecast import PlannedStep, experiment_checks, trial_forecast, trial_sentence
from apps.rollouts.services.preflight import preflight_ask, preflight_checks
from apps.targets.domain.preflight import PreflightReport
from apps.targets.selectors import capabilities_of, freeze_active
from apps.targets.services.scope import endpoint_require
from apps.telemetry.domain.window import WindowRequest
from apps.telemetry.selectors import windows

if TYPE_CHECKING:  # names for the reader and mypy; another app's models are not ours to query
    from apps.registry.models import ModelVersion
    from apps.targets.models import Endpoint

LOAD_SECONDS = 600
RECENT_SECONDS = 60
RECENT_ENOUGH = 50
REQUESTS_FOR_ONE_PERCENT = 455
"""Requests without a bad one that prove "under 1 %" (kernel.stats.bernoulli, alpha .05); in inverse proportion else."""


@dataclass(frozen=True, slots=True)
class RolloutPlan:
    """The answer of a dry run."""

    endpoint: Endpoint
    stable: ModelVersion | None
    candidate: ModelVersion
    plan: Plan
    checks: tuple[Check, ...]
    steps: tuple[PlannedStep, ...]
    requests_per_second: float
    expected_seconds: float | None
    rollback: str
    preflight: PreflightReport | None = None

    @property
    def plan_hash(self) -> str:
        return self.plan.plan_hash

    @property
    def is_startable(self) -> bool:
        return not self.blocks

    @property
    def blocks(self) -> list[Check]:
        return [check for check in self.checks if check.level is Level.BLOCK]


def rollout_plan(
    *,
    actor: Actor,
    endpoint_id: str,
    version_id: str,
    strategy: str,
    profile: str = STANDARD,
    steps: Sequence[Step] | None = None,
    guardrails: Sequence[GateSpec] | None = None,
    supersede: str = "reject",
    approval: Step | None = None,
    experiment: Step | None = None,
    keep_warm_seconds: int | None = None,
    has_preflight: bool = True,
) -> RolloutPlan:
    """Check and forecast; reads the artifact and asks the target, so not in a transaction.

    ``keep_warm_seconds``: how long the old version stays up after the promotion; None for what is usual, which is
    nothing where the target keeps no processes without traffic.

    Without ``has_preflight`` the target is not asked: on the way back, which must be possible on a full cluster too.

    Raises NotFound (what ``actor`` may not see, too), Forbidden (``rollout.plan``), InvalidInput at /strategy,
    /profile, /approval, /experiment. Everything else that speaks against the rollout is a check in the answer.
    """
    endpoint = endpoint_require(actor, "rollout.plan", endpoint_id)
    candidate = version_get(version_id, actor=actor)
    if strategy not in set(Strategy):
        raise InvalidInput.at("/strategy", "unknown_strategy", f"{strategy!r} is none of {', '.join(Strategy)}.")
    if keep_warm_seconds is None and not capabilities_of(endpoint.target).keeps_idle:
        keep_warm_seconds = 0
    plan = build_plan(
        Strategy(strategy),
        profile=profile,
        steps=steps,
        guardrails=guardrails,
        approval=approval,
        experiment=experiment,
        keep_warm_seconds=keep_warm_seconds,
    )
    plan = replace(plan, extra={**plan.extra, **_bound(endpoint, candidate)})
    rate = _load(endpoint)
    planned = tuple(_forecast(plan, rate))
    seconds = [step.expected_seconds for step in planned]
    checks = (*_checks(endpoint, candidate, plan, rate, supersede), *approval_checks(actor, endpoint, plan))
    report = preflight_ask(actor, endpoint, candidate, plan, checks) if has_preflight else None
    return RolloutPlan(
        endpoint=endpoint,
        stable=endpoint.stable_version,
        candidate=candidate,
        plan=plan,
        checks=(*checks, *preflight_checks(report)),
        steps=planned,
        requests_per_second=rate,
        expected_seconds=None if None in seconds else sum(value for value in seconds if value is not None),
        rollback=_rollback(endpoint.stable_version, plan),
        preflight=report,
    )


def _bound(endpoint: Endpoint, candidate: ModelVersion) -> dict[str, str]:
    """What the plan's hash binds beside its steps: a plan that was shown for one version starts no other."""
    stable = endpoint.stable_version
    return {
        "endpoint": endpoint.name,
        "candidate": f"{candidate.semver} {candidate.artifact_digest}",
        "stable": f"{stable.semver} {stable.artifact_digest}" if stable else "",
    }


def plan_refuse(planned: RolloutPlan) -> None:
    """Raises for what blocks: InvalidInput with all of the plan's own fields, else Conflict or PolicyRefused."""
    blocks = planned.blocks
    if not blocks:
        return
    first = blocks[0]
    fields = [block for block in blocks if block.code.startswith("plan.")]
    if fields and first in fields:
        errors = tuple(FieldError(block.pointer, block.code.removeprefix("plan."), block.detail) for block in fields)
        raise InvalidInput("invalid_plan", " ".join(error.detail for error in errors), fields=errors)
    extra = {**first.extra, "pointer": first.pointer}
    if first.code in {"endpoint_busy", "endpoint_held"}:
        raise Conflict(first.code, first.detail, extra=extra)
    raise PolicyRefused(first.code, first.detail, extra=extra)


def plan_expect(plan_hash: str, expected: str | None) -> None:
    """Raises Conflict ``plan_changed`` unless ``plan_hash`` is the expected one, or nothing was expected."""
    if expected is not None and expected != plan_hash:
        raise Conflict(
            "plan_changed",
            "This is no longer the plan that was shown; look at it again.",
            extra={"plan_hash": plan_hash, "expected_plan_hash": expected},
        )


def _checks(endpoint: Endpoint, candidate: ModelVersion, plan: Plan, rate: float, supersede: str) -> Iterator[Check]:
    yield from _version_checks(endpoint, candidate)
    for error in plan_errors(plan, capabilities_of(endpoint.target)):
        yield Check(Level.BLOCK, f"plan.{error.code}", error.detail, error.pointer)
    yield from _place_checks(endpoint, supersede)
    if rate == 0:
        policy = endpoint.target.no_traffic_policy
        detail = (
            f"Nobody called {endpoint.name} in the last {LOAD_SECONDS // 60} minutes; by the target's policy: {policy}."
        )
        yield Check(Level.WARN, "no_traffic", detail, "/endpoint")
    yield from experiment_checks(plan)
    if not plan.guardrails:
        yield Check(Level.WARN, "no_guardrails", "Nothing would bring a bad version back by itself.", "/guardrails")


def _version_checks(endpoint: Endpoint, candidate: ModelVersion) -> Iterator[Check]:
    stable, name = endpoint.stable_version, candidate.reference
    if candidate.model_id != endpoint.model_id:
        detail = f"{name} belongs to {candidate.model.name}, {endpoint.name} serves {endpoint.model.name}."
        yield Check(Level.BLOCK, "other_model", detail, "/version")
        return
    if candidate.deleted_at is not None:
        detail = f"{candidate.reference} was deleted; register it again as a new version."
        yield Check(Level.BLOCK, "version_deleted", detail, "/version")
        return
    if candidate.status == "ready" and candidate.trust == "unverified":
        yield Check(Level.BLOCK, "version_unverified", unverified_sentence(candidate), "/version")
        return
    if candidate.status != "ready":
        detail = f"{name} is {candidate.status}: {candidate.status_message or 'only a ready version can be served'}."
        yield Check(Level.BLOCK, "version_not_ready", detail, "/version")
    if stable is None:
        yield Check(Level.BLOCK, "no_stable", f"{endpoint.name} serves nothing that could be replaced.", "/endpoint")
    elif stable.pk == candidate.pk:
        yield Check(Level.BLOCK, "same_version", f"{name} is stable at {endpoint.name} already.", "/version")
    else:
        yield from _signature(stable, candidate)
    try:
        artifact_check(candidate)
    except PolicyRefused as refused:
        yield Check(Level.BLOCK, refused.code, refused.detail, "/version", refused.extra)
    else:
        yield Check(Level.PASS, "artifact", f"The artifact of {name} is there and unchanged.", "/version")


def _signature(stable: ModelVersion, candidate: ModelVersion) -> Iterator[Check]:
    problems = drop_in_problems(stable, candidate)
    if not problems:
        yield Check(Level.PASS, "signature", f"Calls made for {stable.semver} fit {candidate.semver}.", "/version")
        return
    yield Check(
        Level.BLOCK,
        "signature_breaks_callers",
        f"{drop_in_refusal(stable, candidate)} {ways_sentence(candidate.semver)}",
        "/version",
        {"differences": [problem.as_dict() for problem in problems]},
    )


def _place_checks(endpoint: Endpoint, supersede: str) -> Iterator[Check]:
    if endpoint.observe_error or endpoint.target.probe_error:
        reason = endpoint.observe_error or endpoint.target.probe_error
        detail = f"Target {endpoint.target.name} does not answer: {reason} Nothing can be started there now."
        yield Check(Level.BLOCK, "target_unreachable", detail, "/endpoint")
    else:
        yield Check(Level.PASS, "target", f"Target {endpoint.target.name} answers.", "/endpoint")
    busy = active_of(endpoint.pk)
    if busy is not None:
        detail = f"{endpoint.name} is busy with {busy.pk} (to {busy.candidate_version.semver}, {busy.phase})."
        level = Level.BLOCK if supersede == "reject" else Level.WARN
        way_out = {"reject": "Wait, queue behind it, or replace it.", "queue": "This one waits for its end."}
        after = way_out.get(supersede, "It goes back first, then this one begins.")
        is_over = busy.phase == Phase.PROMOTING and supersede == "replace"
        after = "It is all but finished, so this one waits for its end." if is_over else after
        extra = {"rollout": busy.pk, "phase": busy.phase}
        yield Check(level, "endpoint_busy", f"{detail} {after}", "/supersede", extra)
    if endpoint.traffic_holder:
        kind, _, subject = endpoint.traffic_holder.partition(":")
        level = Level.WARN if supersede == "queue" else Level.BLOCK
        detail = f"{endpoint.name} is busy with the {kind} {subject}: wait until it ends, queue behind it, or stop it."
        yield Check(level, "endpoint_held", detail, "/supersede", {"holder": kind, "subject": subject})
    freeze = freeze_active(endpoint, now())
    if freeze is not None:
        until = f"{freeze.ends_at:%Y-%m-%d %H:%M} UTC"
        yield Check(Level.WARN, "frozen", f"A freeze window is open until {until}: {freeze.reason}.", "/endpoint")


def _load(endpoint: Endpoint) -> float:
    """Requests per second of the last ten minutes, all variants that are desired there."""
    until = int(now().timestamp())
    keys = [variant["key"] for variant in endpoint.desired.get("variants", ())] if endpoint.desired else []
    spans = (RECENT_SECONDS, LOAD_SECONDS)
    found = windows(
        [
            WindowRequest(endpoint.name, key, ("weighted",), since=until - span, until=until)
            for span in spans
            for key in keys
        ]
    )
    recent, whole = (sum(window.total for window in part) for part in (found[: len(keys)], found[len(keys) :]))
    # Callers may have come a minute ago: an average that reaches back before them would promise hours.
    return recent / RECENT_SECONDS if recent >= RECENT_ENOUGH else whole / LOAD_SECONDS


def _forecast(plan: Plan, rate: float) -> Iterator[PlannedStep]:
    weight_bp, mirror_bp = 0, 0
    for index, step in enumerate(plan.steps):
        if step.kind is StepKind.EXPERIMENT:
            weight_bp, mirror_bp = step.route_weight_bp or weight_bp, 0
            yield trial_forecast(index, step, rate)
            continue
        if step.kind is StepKind.SET_WEIGHT:
            weight_bp, mirror_bp = step.weight_bp or 0, step.mirror_bp or 0
        if step.kind is StepKind.MIRROR:
            mirror_bp = step.mirror_bp or 0
        needed = _needed(step)
        share = max(weight_bp, mirror_bp) / FULL_BP
        own_rate = rate if step.kind is StepKind.SET_WEIGHT else rate * share
        seconds: float | None = float(step.seconds or 0)
        if needed:
            seconds = needed / own_rate if own_rate else None
        if step.kind is StepKind.APPROVAL or (step.kind is StepKind.PAUSE and step.seconds is None):
            seconds = None
        yield PlannedStep(index, sentence_of(step), needed, seconds)


def _needed(step: Step) -> int:
    if step.kind is StepKind.SET_WEIGHT and step.weight_bp and 0 < step.weight_bp <= FULL_BP:
        return max(20, requests_needed(step.weight_bp))
    limits = [1 - gate.limit if gate.metric.value == "availability" else gate.limit for gate in step.gates]
    shares = [limit for limit in limits if 0 < limit < 1]
    return round(REQUESTS_FOR_ONE_PERCENT * 0.01 / min(shares)) if shares else 0


def sentence_of(step: Step) -> str:
    """One step in words."""
    match step.kind:
        case StepKind.SET_WEIGHT:
            return f"send {(step.weight_bp or 0) / 100:g} % of the requests to the candidate"
        case StepKind.MIRROR:
            return f"copy {(step.mirror_bp or 0) / 100:g} % of the requests to the candidate"
        case StepKind.PAUSE:
            return "wait until a person resumes" if step.seconds is None else f"watch for {step.seconds} s"
        case StepKind.GATE:
            return f"go on only when {', '.join(gate.name for gate in step.gates)} are proved within their limits"
        case StepKind.EXPERIMENT:
            return trial_sentence(step)
        case StepKind.APPROVAL:
            within = f" within {step.deadline_seconds} s" if step.deadline_seconds else ""
            return f"ask {people_words(step.quorum or 1)} to approve{within}; nobody approves what they started"


def _rollback(stable: ModelVersion | None, plan: Plan) -> str:
    if stable is None:
        return "There is no version to go back to."
    if plan.strategy is Strategy.RECREATE:
        return f"To {stable.semver}, which is started again first: callers wait as long as it takes to load."
    way = (
        f"To {stable.semver}, whose processes stay up until the end: one route change, then {plan.drain_seconds} s of "
        f"draining and {SLOT_SECONDS} s for its last reports. By itself when a guardrail fails, or at once by a click."
    )
    if plan.keep_warm_seconds:
        way += f" For {plan.keep_warm_seconds} s after the promotion they are kept warm: rolling back starts nothing."
    return way
