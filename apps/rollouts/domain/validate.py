"""What a plan may not say. Everything impossible is refused when the plan is written, naming the field."""

from __future__ import annotations

from collections.abc import Iterator

from apps.experiments.domain.check import design_faults
from apps.experiments.domain.sizing import sizing
from apps.experiments.domain.words import TREATMENT
from apps.kernel.errors import FieldError, InvalidInput
from apps.rollouts.domain.plan import (
    FULL_BP,
    GateSpec,
    Inconclusive,
    Metric,
    Plan,
    Step,
    StepKind,
    Strategy,
    Unapproved,
)
from apps.targets.domain.driver import Capabilities, Support
from apps.telemetry.domain.limits import MAX_LATENCY_SECONDS

MAX_STEPS = 50
MAX_SECONDS = 30 * 24 * 3600
MAX_QUORUM = 20
MIN_DEADLINE = 60
MIN_LOOK, MAX_LOOK = 5, 7 * 24 * 3600
MIN_HORIZON, MAX_HORIZON = 10, 365 * 24 * 3600
MAX_WARM_SECONDS = 24 * 3600


def plan_errors(plan: Plan, capabilities: Capabilities) -> list[FieldError]:
    """Every fault, each with a JSON pointer into the plan; empty when the plan can be carried out there."""
    errors = [
        *_whole(plan),
        *_monotone(plan),
        *_early_approvals(plan),
        *_experiments(plan),
        *_abilities(plan, capabilities),
        *_unique_names(plan),
        *_meaningful(plan),
    ]
    for index, step in enumerate(plan.steps):
        errors += list(_step(step, f"/steps/{index}"))
    return errors


def plan_check(plan: Plan, capabilities: Capabilities) -> None:
    """Raises InvalidInput carrying every fault."""
    errors = plan_errors(plan, capabilities)
    if errors:
        detail = " ".join(error.detail for error in errors)
        raise InvalidInput("invalid_plan", detail, fields=tuple(errors))


def _whole(plan: Plan) -> Iterator[FieldError]:
    if not plan.steps:
        yield FieldError("/steps", "empty", "A plan needs at least one step.")
    if len(plan.steps) > MAX_STEPS:
        yield FieldError("/steps", "too_many", f"{len(plan.steps)} steps; at most {MAX_STEPS} are possible.")
    if plan.strategy is Strategy.RECREATE and not plan.declared_downtime:
        yield FieldError(
            "/declared_downtime", "downtime", "Recreate stops the old version first: declare the downtime."
        )
    for name in ("prepare_deadline_seconds", "shift_deadline_seconds", "inconclusive_deadline_seconds"):
        value = getattr(plan, name)
        if not 0 < value <= MAX_SECONDS:
            yield FieldError(f"/{name}", "out_of_range", f"{name} must lie between 1 and {MAX_SECONDS}, not {value}.")
    for name, most in (
        ("unready_grace_seconds", MAX_SECONDS),
        ("drain_seconds", MAX_SECONDS),
        ("keep_warm_seconds", MAX_WARM_SECONDS),
    ):
        value = getattr(plan, name)
        if not 0 <= value <= most:
            yield FieldError(f"/{name}", "out_of_range", f"{name} must lie between 0 and {most}, not {value}.")
    if plan.keep_warm_seconds and plan.strategy in {Strategy.RECREATE, Strategy.SHADOW}:
        why = "has stopped the old version before" if plan.strategy is Strategy.RECREATE else "replaces no version"
        detail = f"A {plan.strategy.value} rollout {why}: there is nothing to keep warm; leave it at 0."
        yield FieldError("/keep_warm_seconds", "nothing_to_keep", detail)


def _monotone(plan: Plan) -> Iterator[FieldError]:
    """Weights rise; the last one is 100 %, or for a shadow there is none."""
    last, pointer = 0, "/steps"
    for index, step in enumerate(plan.steps):
        weight_bp = step.route_weight_bp
        if step.kind not in {StepKind.SET_WEIGHT, StepKind.EXPERIMENT} or weight_bp is None:
            continue
        pointer = f"/steps/{index}/weight_bp"
        if plan.strategy is Strategy.SHADOW:
            yield FieldError(pointer, "shadow_weight", "A shadow gets copies only; use a canary to move traffic.")
        elif weight_bp <= last:
            detail = f"Weights must rise: {_percent(weight_bp)} after {_percent(last)}."
            yield FieldError(pointer, "weight_falls", detail)
        last = max(last, weight_bp)
    mirrors = [step.mirror_bp for step in plan.steps if step.kind is StepKind.MIRROR]
    if plan.strategy is not Strategy.SHADOW and plan.steps and last != FULL_BP:
        detail = f"The last weight must be 100 %, not {_percent(last)}: otherwise the rollout can never end."
        yield FieldError(pointer, "never_full", detail)
    if plan.strategy is Strategy.SHADOW and plan.steps and not any(mirrors):
        yield FieldError("/steps", "no_mirror", "A shadow needs a step that mirrors requests.")


def _early_approvals(plan: Plan) -> Iterator[FieldError]:
    """Recreate gives the candidate everything before its first step: an approval before 100 % would come too late."""
    if plan.strategy is not Strategy.RECREATE:
        return
    kinds = [step.kind for step in plan.steps]
    full = kinds.index(StepKind.SET_WEIGHT) if StepKind.SET_WEIGHT in kinds else len(kinds)
    for index in range(full):
        if kinds[index] is StepKind.APPROVAL:
            detail = "Recreate stops the old version before its first step: put the approval after 100 %."
            yield FieldError(f"/steps/{index}/kind", "approval_too_late", detail)


def _step(step: Step, pointer: str) -> Iterator[FieldError]:
    match step.kind:
        case StepKind.SET_WEIGHT:
            yield from _share(step.weight_bp, f"{pointer}/weight_bp", lowest=1)
        case StepKind.MIRROR:
            yield from _share(step.mirror_bp, f"{pointer}/mirror_bp", lowest=0)
        case StepKind.PAUSE:
            if step.seconds is not None and not 0 <= step.seconds <= MAX_SECONDS:
                detail = f"A pause lasts 0 to {MAX_SECONDS} seconds, not {step.seconds}."
                yield FieldError(f"{pointer}/seconds", "out_of_range", detail)
        case StepKind.GATE:
            if not step.gates:
                yield FieldError(f"{pointer}/gates", "empty", "A gate step needs a metric with a limit.")
        case StepKind.APPROVAL:
            yield from _approval(step, pointer)
        case StepKind.EXPERIMENT:
            yield from _experiment(step, pointer)
    yield from _strangers(step, pointer)


_FIELDS = {
    StepKind.SET_WEIGHT: {"weight_bp", "mirror_bp"},
    StepKind.MIRROR: {"mirror_bp"},
    StepKind.PAUSE: {"seconds"},
    StepKind.GATE: {"gates"},
    StepKind.APPROVAL: {"quorum", "deadline_seconds", "on_rejection", "on_expiry"},
    StepKind.EXPERIMENT: {
        "weight_bp", "design", "on_inconclusive", "units_per_day", "look_seconds", "horizon_seconds", "quorum",
        "deadline_seconds", "on_rejection", "on_expiry",
    },
}  # fmt: skip
_ALL_FIELDS = sorted(set().union(*_FIELDS.values()))


def _approval(step: Step, pointer: str) -> Iterator[FieldError]:
    if not 1 <= (step.quorum or 0) <= MAX_QUORUM:
        detail = f"1 to {MAX_QUORUM} people can be asked to approve, not {step.quorum}."
        yield FieldError(f"{pointer}/quorum", "out_of_range", detail)
    if step.deadline_seconds is not None and not MIN_DEADLINE <= step.deadline_seconds <= MAX_SECONDS:
        detail = f"People get {MIN_DEADLINE} to {MAX_SECONDS} seconds to decide, not {step.deadline_seconds}."
        yield FieldError(f"{pointer}/deadline_seconds", "out_of_range", detail)
    if step.on_rejection is Unapproved.HOLD and step.on_expiry is Unapproved.ROLL_BACK:
        detail = "Silence cannot weigh more than a rejection: roll back on both, or hold on expiry."
        yield FieldError(f"{pointer}/on_expiry", "stricter_than_rejection", detail)


def _experiments(plan: Plan) -> Iterator[FieldError]:
    """One in an A/B plan, none elsewhere; by arm the weight stays at 0 until the end, so none may come before."""
    places = [index for index, step in enumerate(plan.steps) if step.kind is StepKind.EXPERIMENT]
    if plan.strategy is not Strategy.AB:
        for index in places:
            detail = f"Only strategy ab is decided by an experiment, not {plan.strategy.value}."
            yield FieldError(f"/steps/{index}/kind", "experiment_elsewhere", detail)
        return
    if plan.steps and not places:
        yield FieldError("/steps", "no_experiment", "An A/B rollout needs the experiment step that decides.")
    for index in places[1:]:
        yield FieldError(f"/steps/{index}/kind", "two_experiments", "An A/B rollout is decided by one experiment.")
    for index in places[:1]:
        before = [step for step in plan.steps[:index] if step.weight_bp]
        if before and plan.steps[index].is_by_arm:
            detail = "With arms that callers bring, the weight stays 0 %: no weight may stand before the experiment."
            yield FieldError(f"/steps/{index}/design/unit", "weight_before_arms", detail)


def _experiment(step: Step, pointer: str) -> Iterator[FieldError]:
    design = step.design
    if design is None:
        yield FieldError(f"{pointer}/design", "required", "An experiment step needs a design.")
        return
    faults = [FieldError(f"{pointer}{fault.pointer}", fault.code, fault.detail) for fault in design_faults(design)]
    yield from faults
    if step.weight_bp != design.weights_bp.get(TREATMENT):
        detail = (
            f"weight_bp is the treatment's share; the design says {design.weights_bp.get(TREATMENT)}: leave it out."
        )
        yield FieldError(f"{pointer}/weight_bp", "other_share", detail)
    if not design.stop_on_harm:
        detail = "A rollout always goes back where harm is sure: leave stop_on_harm on."
        yield FieldError(f"{pointer}/design/stop_on_harm", "always", detail)
    yield from _times(step, pointer)
    if step.on_inconclusive is Inconclusive.ASK:
        yield from _approval(step, pointer)
    else:
        for name in ("quorum", "deadline_seconds", "on_rejection", "on_expiry"):
            if getattr(step, name) is not None:
                yield FieldError(f"{pointer}/{name}", "not_here", f"{name} belongs to on_inconclusive ask.")
    if not faults and not (step.units_per_day is not None and step.units_per_day <= 0):
        yield from _size(step, pointer)


def _times(step: Step, pointer: str) -> Iterator[FieldError]:
    if step.units_per_day is not None and not 0 < step.units_per_day <= 1e12:
        yield FieldError(f"{pointer}/units_per_day", "out_of_range", "units_per_day must be over 0.")
    if not MIN_LOOK <= (step.look_seconds or 0) <= MAX_LOOK:
        detail = f"look_seconds must lie between {MIN_LOOK} and {MAX_LOOK} (a week), not {step.look_seconds}."
        yield FieldError(f"{pointer}/look_seconds", "out_of_range", detail)
    if step.horizon_seconds is not None and not MIN_HORIZON <= step.horizon_seconds <= MAX_HORIZON:
        detail = f"horizon_seconds must lie between {MIN_HORIZON} and {MAX_HORIZON} (a year)."
        yield FieldError(f"{pointer}/horizon_seconds", "out_of_range", detail)


def _size(step: Step, pointer: str) -> Iterator[FieldError]:
    """Numbers that lead nowhere are refused here, not in the middle of the rollout."""
    if step.design is None:
        return
    try:
        sizing(step.design, units_per_day=step.units_per_day)
    except InvalidInput as error:
        yield FieldError(f"{pointer}/design", error.code, error.detail)


def _strangers(step: Step, pointer: str) -> Iterator[FieldError]:
    for name in _ALL_FIELDS:
        if name not in _FIELDS[step.kind] and getattr(step, name) not in (None, ()):
            yield FieldError(f"{pointer}/{name}", "not_here", f"{name} means nothing in a {step.kind.value} step.")


def _share(value: int | None, pointer: str, *, lowest: int) -> Iterator[FieldError]:
    if value is None:
        yield FieldError(pointer, "required", f"{pointer.rsplit('/', 1)[1]} is missing.")
    elif not lowest <= value <= FULL_BP:
        yield FieldError(pointer, "out_of_range", f"{value} is not {lowest} to {FULL_BP} basis points (100 %).")


def _abilities(plan: Plan, capabilities: Capabilities) -> Iterator[FieldError]:
    if plan.keep_warm_seconds and not capabilities.keeps_idle:
        detail = "This target keeps no processes of a version without traffic: nothing can be kept warm; leave it at 0."
        yield FieldError("/keep_warm_seconds", "no_warm", detail)
    for index, step in enumerate(plan.steps):
        weight, mirror = step.route_weight_bp or 0, step.mirror_bp or 0
        if step.is_by_arm and capabilities.arm_header is Support.NO:
            detail = "This target cannot route by an experiment's arm; it can split by request: take unit request."
            yield FieldError(f"/steps/{index}/design/unit", "not_supported", detail)
        if 0 < weight < FULL_BP:
            pointer = f"/steps/{index}/weight_bp"
            if capabilities.weights is Support.NO:
                yield FieldError(pointer, "no_weights", "This target cannot split traffic; use blue-green.")
            elif weight < capabilities.min_weight_bp:
                least = _percent(capabilities.min_weight_bp)
                yield FieldError(pointer, "weight_too_small", f"This target cannot tell apart less than {least}.")
        if mirror and capabilities.mirror is Support.NO:
            yield FieldError(f"/steps/{index}/mirror_bp", "no_mirror", "This target cannot mirror requests.")


def _gate_lists(plan: Plan) -> list[tuple[str, tuple[GateSpec, ...]]]:
    return [
        ("/guardrails", plan.guardrails),
        *((f"/steps/{index}/gates", step.gates) for index, step in enumerate(plan.steps)),
    ]


def _meaningful(plan: Plan) -> Iterator[FieldError]:
    """A gate that every request fails, or that none can fail, is no gate."""
    for pointer, gates in _gate_lists(plan):
        for index, gate in enumerate(gates):
            over = gate.threshold_seconds
            if over is not None and not 0 < over <= MAX_LATENCY_SECONDS:
                detail = f"{gate.name}: slow is over 0 to {MAX_LATENCY_SECONDS:.0f} seconds, not {over:g}."
                yield FieldError(f"{pointer}/{index}/threshold_seconds", "out_of_range", detail)
            if gate.metric is Metric.TELEMETRY_AGE and gate.limit > MAX_SECONDS:
                detail = f"{gate.name}: reports may be at most {MAX_SECONDS} seconds old, not {gate.limit:g}."
                yield FieldError(f"{pointer}/{index}/limit", "out_of_range", detail)


def _unique_names(plan: Plan) -> Iterator[FieldError]:
    for pointer, gates in _gate_lists(plan):
        names = [gate.name for gate in gates]
        for index, name in enumerate(names):
            if not name or name in names[:index]:
                yield FieldError(f"{pointer}/{index}/name", "name", f"{name!r} is empty or used twice.")


def _percent(weight_bp: int) -> str:
    return f"{weight_bp / 100:g} %"
