"""The data of the charts: series from telemetry, verticals and outlines from transitions, limits from the plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from apps.rollouts.domain.machine import ACTIVE, Phase
from apps.rollouts.domain.plan import FULL_BP, Metric, Plan
from apps.rollouts.models import Rollout, Transition
from apps.rollouts.web.measures import Tones, story_of, tones_of
from apps.rollouts.web.reads import latest_transitions
from apps.targets.selectors import plan_of
from apps.telemetry.domain.window import MEASURED, UNSERVED
from apps.telemetry.selectors import series_of_routes

if TYPE_CHECKING:
    from apps.targets.models import Endpoint

_LINES = {"measured": MEASURED, "weighted": ("weighted",), "counted": (*MEASURED, UNSERVED)}
MARKED_ACTIONS = frozenset({"Shift", "RollBack", "Supersede", "Promote"})


def charts_of(
    endpoint: Endpoint, rollouts: Sequence[Rollout], *, since: int, until: int, step: int, first: Sequence[str] = ()
) -> dict[str, Any]:
    """Arguments of the four charts, by kind. ``rollouts`` are the endpoint's, newest first; the newest one gives the
    limits. Colours: ``tones_of``. On the page of one rollout ``first`` names its variants: they are shown even when
    nothing was measured of them, in this order; others only where they were measured before its end. Its errors
    are those that gates read; on the endpoint's own page requests that no process answered count among them."""
    found = series_of_routes(endpoint.name, since=since, until=until, step_seconds=step, routes=_LINES)
    measured, weighted = found["measured"], found["weighted"]
    counted = measured if first else found["counted"]
    story = rollouts[0] if first else story_of(rollouts)
    worn = tones_of(plan_of(endpoint), sorted({*counted, *first}), story)
    tones = {key: worn[key] for key in (_of_its_time(measured, first, rollouts[0]) if first else worn)}
    transitions = latest_transitions([rollout.pk for rollout in rollouts])
    marks = [(item.at.timestamp(), _mark(item)) for item in transitions if item.action in MARKED_ACTIONS]
    limits = _limits(rollouts)
    shared = {"tones": tones, "since": since, "until": until, "step": step, "marks": marks}
    split = {**shared, "points": weighted, "tones": _candidate_first(tones, rollouts)}
    if rollouts:
        split["wanted"] = _wanted(rollouts[0], transitions, since)
    return {
        "latency": {**shared, "points": measured, "limits": limits["latency"]},
        "errors": {**shared, "points": counted, "limits": limits["errors"]},
        "split": split,
        "rate": {**shared, "points": counted},
    }


def _of_its_time(measured: Mapping[str, Sequence[Any]], first: Sequence[str], rollout: Rollout) -> list[str]:
    """The rollout's own variants, and what else was measured while it went on: not what came after it."""
    end = rollout.finished_at.timestamp() if rollout.finished_at else None
    others = (key for key, points in measured.items() if end is None or any(point.at <= end for point in points))
    return [*first, *sorted(set(others) - set(first))]


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


def _candidate_first(tones: Tones, rollouts: Sequence[Rollout]) -> Tones:
    """The outline shows the share of the newest rollout's candidate from the bottom, so its fill starts there too."""
    candidate = rollouts[0].candidate_version.variant_key if rollouts else ""
    return dict(sorted(tones.items(), key=lambda item: item[0] != candidate))
