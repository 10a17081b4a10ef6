"""The rollout page in words and stops: pure functions of a rollout's plan, phase and findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from apps.kernel.verdicts import Verdict
from apps.rollouts.domain.forward import people_words
from apps.rollouts.domain.gates import percent
from apps.rollouts.domain.machine import TERMINAL, Phase
from apps.rollouts.domain.plan import GateSpec, Metric, Plan, Step, StepKind

LEVELS = {
    Verdict.PASS: "ok",
    Verdict.FAIL: "bad",
    Verdict.INCONCLUSIVE: "attention",
    Verdict.NO_DATA: "unknown",
    Verdict.ERROR: "unknown",
    Verdict.PENDING: "progressing",
}


@dataclass(frozen=True, slots=True)
class Stop:
    """One stop of the rail: a weight with what happens there. ``first``/``last`` are step indexes; ``said`` is the
    state for who does not see the shape: on a rail that has ended nothing is "now" or "later" any more."""

    title: str
    first: int
    last: int
    notes: tuple[str, ...] = ()
    state: str = "later"
    level: str = ""
    said: str = ""


@dataclass(frozen=True, slots=True)
class Tile:
    """One gate: its verdict, value, limit, interval and samples; ``sentence`` says it all in words."""

    name: str
    verdict: Verdict
    sentence: str
    value: str = "–"
    limit: str = ""
    samples: int | None = None
    share: float | None = None
    lower: float | None = None
    upper: float | None = None
    bound: float | None = None
    shown_lower: str = ""
    shown_upper: str = ""

    @property
    def level(self) -> str:
        return LEVELS[self.verdict]


_SAID = {"done": "done", "now": "now", "later": "still to come"}
_SAID_ENDED = {"done": "done", "now": "ended here", "later": "not reached"}


@dataclass(frozen=True, slots=True)
class _Group:
    title: str
    first: int
    steps: list[Step] = field(default_factory=list)


def span(seconds: float | None) -> str:
    """Seconds as a plan says them: "15 s", "30 min", "1 h"."""
    if seconds is None:
        return "until a person resumes"
    whole = round(seconds)
    if whole >= 3600 and whole % 3600 == 0:
        return f"{whole // 3600} h"
    return f"{whole // 60} min" if whole >= 60 and whole % 60 == 0 else f"{whole} s"


def step_words(step: Step) -> str:
    """One step in words."""
    match step.kind:
        case StepKind.SET_WEIGHT:
            return f"{(step.weight_bp or 0) / 100:g} %"
        case StepKind.MIRROR:
            return f"copy {step.mirror_bp / 100:g} %" if step.mirror_bp else "stop copying"
        case StepKind.PAUSE:
            return f"bake {span(step.seconds)}" if step.seconds is not None else "wait for a person"
        case StepKind.GATE:
            return f"gate: {', '.join(gate.name for gate in step.gates)}"
        case StepKind.EXPERIMENT:
            metric = step.design.primary_metric.label if step.design else "an experiment"
            return f"decided by {metric}"
        case StepKind.APPROVAL:
            return f"approval by {people_words(step.quorum or 1)}"


def stops_of(plan: Plan) -> list[Stop]:
    """The plan's steps grouped by weight: a weight or copy opens a stop, pauses and gates belong to it."""
    groups: list[_Group] = []
    for index, step in enumerate(plan.steps):
        if step.kind in _OPENS or not groups:
            groups.append(_Group(_title(step), index))
        groups[-1].steps.append(step)
    return [
        Stop(
            group.title,
            group.first,
            group.first + len(group.steps) - 1,
            tuple(
                step_words(step)
                for number, step in enumerate(group.steps)
                if step.kind is StepKind.EXPERIMENT or (number and step.kind not in _OPENS)
            ),
        )
        for group in groups
    ]


_OPENS = (StepKind.SET_WEIGHT, StepKind.MIRROR, StepKind.EXPERIMENT)


def _title(step: Step) -> str:
    """What a stop is called; one that begins with a pause or a gate is called by it."""
    return f"A/B {(step.weight_bp or 0) / 100:g} %" if step.kind is StepKind.EXPERIMENT else step_words(step)


def rail_of(plan: Plan, phase: Phase, step: int) -> list[Stop]:
    """Prepare, the plan's stops, and the end; each done, now or later. ``level`` colours the current one.

    On a rail that has ended nothing is said in the present: what was ready then may be gone by now.
    """
    said = _SAID_ENDED if phase in TERMINAL else _SAID
    stops = [Stop("prepare", -1, -1), *stops_of(plan)]
    end = Stop("done" if not _ends_full(plan) else "promoted", len(plan.steps), len(plan.steps))
    is_forward = phase in (Phase.PROMOTED, Phase.COMPLETED)
    marked = []
    for stop in [*stops, end]:
        if is_forward or (phase is Phase.PROMOTING and stop is not end):
            state = "done"
        elif phase is Phase.PROMOTING:
            state = "now"
        elif phase is Phase.PENDING:
            state = "later"
        elif stop.last < step:
            state = "done"
        else:
            state = "now" if stop.first <= step else "later"
        notes = _warmth(state, is_over=phase in TERMINAL) if stop.first < 0 else stop.notes
        level = _level(phase) if state == "now" else ""
        marked.append(replace(stop, state=state, level=level, said=said[state], notes=notes))
    return marked


def _warmth(state: str, *, is_over: bool) -> tuple[str, ...]:
    """What the preparation is for, or what became of it."""
    if is_over:
        return {"done": ("was ready and warm",), "now": ("was not ready by then",)}.get(state, ())
    return ("ready and warm",) if state == "done" else ("until ready and warm",)


def sentence_of(
    phase: Phase, candidate: str, stable: str, weight_bp: int, mirror_bp: int, *, is_approval: bool = False
) -> str:
    """What is going on, without numbers measured: those are added where they are known."""
    awaited = "people approve" if is_approval else "a person resumes"
    share = f"{weight_bp / 100:g} %"
    copied = f" and gets copies of {mirror_bp / 100:g} %" if mirror_bp else ""
    if phase in TERMINAL:
        return _ending(phase, candidate, stable)
    match phase:
        case Phase.PENDING:
            return f"{candidate} waits for its turn; {stable} serves everything."
        case Phase.PREPARING:
            return f"{candidate} is being brought up beside {stable}, without traffic."
        case Phase.ROLLING_BACK:
            return f"{candidate} is going back: {stable} gets all traffic again."
        case Phase.PROMOTING:
            return f"{candidate} serves everything; {stable} drains and leaves."
        case Phase.PAUSED:
            return f"{candidate} keeps {share}{copied}; guardrails go on."
        case Phase.WAITING:
            return f"{candidate} serves {share}{copied} and waits until {awaited}."
        case _:
            return f"{candidate} serves {share}{copied}." if weight_bp else f"{candidate} serves no caller{copied}."


def _ending(phase: Phase, candidate: str, stable: str) -> str:
    match phase:
        case Phase.PROMOTED:
            return f"{candidate} was promoted and got all traffic."
        case Phase.ROLLED_BACK:
            return f"{candidate} was rolled back; {stable} got all traffic again."
        case Phase.ABORTED:
            return f"The rollout of {candidate} was aborted; {stable} got all traffic again."
        case Phase.FAILED:
            return f"{candidate} could not be brought up; {stable} kept all traffic."
        case Phase.COMPLETED:
            return f"The shadow run of {candidate} is complete; {stable} served everything throughout."
        case _:
            return f"Another rollout took the place of this one; {candidate} left."


def comparison(candidate_p95: float | None, stable_p95: float | None, stable: str) -> str:
    """ "p95 512 ms, 301 ms slower than 1.0.0." Empty without both numbers."""
    if candidate_p95 is None:
        return ""
    mine = f"p95 {candidate_p95 * 1000:,.0f} ms"
    if stable_p95 is None:
        return f"{mine}."
    apart = (candidate_p95 - stable_p95) * 1000
    if abs(apart) < 1:
        return f"{mine}, like {stable}."
    return f"{mine}, {abs(apart):,.0f} ms {'slower' if apart > 0 else 'faster'} than {stable}."


def tiles_of(plan: Plan, phase: Phase, step: int, findings: Sequence[Mapping[str, Any]]) -> list[Tile]:
    """A tile per guardrail and per gate of the current step; one never judged is PENDING."""
    specs = {gate.name: gate for gate in plan.guardrails}
    if 0 <= step < len(plan.steps):
        specs |= {gate.name: gate for gate in plan.steps[step].gates}
    found = {str(item.get("evidence", {}).get("name", "")): item for item in findings}
    waiting, verdict = "Not judged yet: the first slot is still open.", Verdict.PENDING
    if phase in TERMINAL:  # nothing is pending any more
        waiting, verdict = "Was not judged.", Verdict.NO_DATA
    return [
        _tile(spec, found[name]) if name in found else Tile(name, verdict, waiting, limit=limit_words(spec))
        for name, spec in specs.items()
    ]


def limit_words(spec: GateSpec) -> str:
    """The limit as a person says it."""
    match spec.metric:
        case Metric.TELEMETRY_AGE:
            return f"limit {spec.limit:g} s"
        case Metric.AVAILABILITY:
            return f"at least {percent(spec.limit)}"
        case Metric.SLOW_SHARE:
            return f"limit {percent(spec.limit)} over {(spec.threshold_seconds or 0) * 1000:g} ms"
        case Metric.ERROR_RATE:
            return f"limit {percent(spec.limit)}"


def gate_words(spec: GateSpec) -> str:
    """A whole guardrail as a person says it: "error rate at most 1 %"."""
    match spec.metric:
        case Metric.ERROR_RATE:
            return f"error rate at most {percent(spec.limit)}"
        case Metric.SLOW_SHARE:
            return f"at most {percent(spec.limit)} over {(spec.threshold_seconds or 0) * 1000:g} ms"
        case Metric.AVAILABILITY:
            return f"at least {percent(spec.limit)} answered"
        case Metric.TELEMETRY_AGE:
            return f"newest report at most {spec.limit:g} s old"


def _tile(spec: GateSpec, finding: Mapping[str, Any]) -> Tile:
    evidence = finding.get("evidence", {})
    verdict, sentence, limit = Verdict(finding["verdict"]), str(finding["reason"]), limit_words(spec)
    if spec.metric is Metric.TELEMETRY_AGE:
        age = evidence.get("age_seconds")
        return Tile(spec.name, verdict, sentence, "–" if age is None else f"{age:.0f} s", limit)
    total = int(evidence.get("total") or 0)
    if not total:
        return Tile(spec.name, verdict, sentence, limit=limit, samples=0)
    share, lower, upper = evidence["bad"] / total, evidence["lower"], evidence["upper"]
    shown = (1 - share, 1 - upper, 1 - lower) if spec.metric is Metric.AVAILABILITY else (share, lower, upper)
    return Tile(
        spec.name,
        verdict,
        sentence,
        percent(shown[0]),
        limit,
        total,
        share,
        lower,
        upper,
        evidence["limit"],
        percent(shown[1], spec.limit),
        percent(shown[2], spec.limit),
    )


def _ends_full(plan: Plan) -> bool:
    return any(step.kind is StepKind.SET_WEIGHT for step in plan.steps)


def _level(phase: Phase) -> str:
    if phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK, Phase.FAILED, Phase.ABORTED, Phase.SUPERSEDED):
        return "bad"
    return "attention" if phase in (Phase.PAUSED, Phase.WAITING) else ""
