"""The data of the charts: series from telemetry, verticals and outlines from transitions, limits from the plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from apps.rollouts.domain.machine import ACTIVE, Phase
from apps.rollouts.domain.plan import FULL_BP, Metric, Plan
from apps.rollouts.models import Rollout, Transition
from apps.rollouts.web.measures import Tones, tone_of, tones_of, version_of
from apps.rollouts.web.reads import latest_transitions
from apps.targets.selectors import plan_of
from apps.telemetry.selectors import series

if TYPE_CHECKING:
    from apps.targets.models import Endpoint

MARKED_ACTIONS = frozenset({"Shift", "RollBack", "Supersede", "Promote"})


def charts_of(
    endpoint: Endpoint, rollouts: Sequence[Rollout], *, since: int, until: int, step: int, own: Tones | None = None
) -> dict[str, Any]:
    """Arguments of the three charts, by kind. ``rollouts`` are the endpoint's, newest first; the newest one that is
    active gives the limits. ``own`` overrides which variant wears which role's colour."""
    measured = series(endpoint.name, since=since, until=until, step_seconds=step)
    weighted = series(endpoint.name, since=since, until=until, step_seconds=step, routes=("weighted",))
    tones = own if own is not None else tones_of(plan_of(endpoint), sorted(measured))
    tones |= {key: (version_of(key), tone_of(key)) for key in sorted(measured) if key not in tones}
    transitions = latest_transitions([rollout.pk for rollout in rollouts])
    marks = [(item.at.timestamp(), _mark(item)) for item in transitions if item.action in MARKED_ACTIONS]
    limits = _limits(rollouts)
    shared = {"tones": tones, "since": since, "until": until, "step": step, "marks": marks}
    split = {**shared, "points": weighted, "tones": _candidate_first(tones)}
    if rollouts:
        split["wanted"] = _wanted(rollouts[0], transitions, since)
    return {
        "latency": {**shared, "points": measured, "limits": limits["latency"]},
        "errors": {**shared, "points": measured, "limits": limits["errors"]},
        "split": split,
    }


def _mark(item: Transition) -> str:
    if item.to_phase == Phase.ROLLING_BACK:
        return "back"
    if item.action == "Promote":
        return "promote"
    return f"{item.weight_bp / 100:g} %"


def _limits(rollouts: Sequence[Rollout]) -> dict[str, list[tuple[float, str]]]:
    """Latency limits in seconds and error limits as shares, of the newest rollout."""
    found: dict[str, list[tuple[float, str]]] = {"latency": [], "errors": []}
    if not rollouts:
        return found
    for gate in Plan.from_json(rollouts[0].plan).guardrails:
        if gate.metric is Metric.SLOW_SHARE and gate.threshold_seconds is not None:
            word = f"limit {gate.threshold_seconds * 1000:g} ms for {(1 - gate.limit) * 100:g} %"
            found["latency"].append((gate.threshold_seconds, word))
        elif gate.metric is Metric.ERROR_RATE:
            found["errors"].append((gate.limit, f"limit {gate.limit * 100:g} %"))
    return found


def _wanted(rollout: Rollout, transitions: Sequence[Transition], since: int) -> list[tuple[float, float]]:
    """The candidate's wanted share over time, as steps from the start of the range."""
    own = sorted((item for item in transitions if item.rollout_id == rollout.pk), key=lambda item: item.at)
    steps, last = [], 0.0
    for item in own:
        at, share = item.at.timestamp(), item.weight_bp / FULL_BP
        if at >= since and share != last:
            steps.append((at, share))
        last = share
    before = [item for item in own if item.at.timestamp() < since]
    begin = before[-1].weight_bp / FULL_BP if before else 0.0
    is_over = rollout.phase not in ACTIVE
    return [(float(since), begin), *steps] if steps or not is_over else []


def _candidate_first(tones: Tones) -> Tones:
    """The outline shows the candidate's share from the bottom, so its fill must start there too."""
    return dict(sorted(tones.items(), key=lambda item: item[1][1] != "candidate"))
