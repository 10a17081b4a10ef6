"""The experiment of a rollout in words and numbers, for the rollout's page and for the wizard's panel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apps.experiments.domain.words import ENDED
from apps.experiments.selectors import decision_of, experiment_list, readout_latest, readout_waiting
from apps.rollouts.models import Rollout

if TYPE_CHECKING:
    from apps.experiments.models import Experiment

LEVELS = {
    "ship": ("ok", "ship it"),
    "roll_back": ("bad", "go back"),
    "keep_running": ("progressing", "keep running"),
    "stop_inconclusive": ("attention", "no difference was found"),
    "blocked": ("attention", "blocked: no verdict"),
}
SPLITS = {
    "ok": ("ok", "split as planned"),
    "suspected": ("attention", "split suspected"),
    "mismatch": ("bad", "split mismatch"),
    "no_data": ("unknown", "no data yet"),
}
ENDS = {"stopped": ("unknown", "ended without a verdict"), "starting": ("progressing", "starting")}


@dataclass(frozen=True, slots=True)
class TrialView:
    """``difference`` and ``lift`` with their intervals in words, "" before the first readout; ``health``: (level, word)
    of the split; ``units`` of ``planned`` at look ``number``."""

    experiment: Experiment
    level: str
    word: str
    metric: str
    units: int
    planned: int
    number: int
    left: str
    difference: str
    lift: str
    arms: str
    health: tuple[str, str]
    reasons: tuple[str, ...]
    as_of: Any
    is_computing: bool


def trial_of(rollout: Rollout) -> TrialView | None:
    """What is known of the experiment that the rollout's step began; None where it has begun none. Three queries."""
    if not rollout.experiment_id:
        return None
    experiment = experiment_list().filter(pk=rollout.experiment_id).first()
    if experiment is None:
        return None
    latest, waiting, decision = readout_latest(experiment), readout_waiting(experiment), decision_of(experiment)
    result: dict[str, Any] = dict(latest.result) if latest else {}
    kind = decision.kind if decision else (latest.kind if latest else "")
    level, word = LEVELS.get(kind, ("progressing", "waits for its first readout"))
    if decision is None:
        level, word = ENDS.get(experiment.status, (level, word))
    said = result.get("decision", {})
    primary = result.get("primary", {})
    return TrialView(
        experiment=experiment,
        level=level,
        word=word,
        metric=primary.get("name", ""),
        units=latest.units if latest else 0,
        planned=experiment.planned_total,
        number=latest.number if latest else 0,
        left="" if experiment.status in ENDED else _left(said),
        difference=_difference(primary, result.get("look", {})),
        lift=_lift(primary.get("lift")),
        arms=_arms(primary),
        health=SPLITS.get(result.get("health", {}).get("srm", {}).get("status", "no_data"), SPLITS["no_data"]),
        reasons=tuple(said.get("reasons", ())),
        as_of=latest.as_of if latest else None,
        is_computing=waiting is not None,
    )


def _left(said: dict[str, Any]) -> str:
    units, days = said.get("units_left"), said.get("days_left")
    if not units:
        return ""
    time = "no end can be named" if days is None else f"about {days} day{'' if days == 1 else 's'}"
    return f"{units:,} units left, {time}"


def _difference(primary: dict[str, Any], look: dict[str, Any]) -> str:
    """The estimate with the interval that holds at all looks together; shares in points."""
    found = primary.get("difference", {})
    estimate = found.get("estimate")
    if estimate is None:
        return str(found.get("text", ""))
    lower, upper = look.get("lower"), look.get("upper")
    interval = "no interval at this look yet" if lower is None else f"{_points(lower)} to {_points(upper)}"
    return f"{_points(estimate)} ({interval})"


def _points(value: float | None) -> str:
    return "∞" if value is None else f"{value * 100:+.2f} pp"


def _lift(lift: dict[str, Any] | None) -> str:
    if not lift or lift.get("estimate") is None:
        return ""
    lower, upper = lift.get("lower"), lift.get("upper")
    if lower is None or upper is None:
        return f"{lift['estimate'] * 100:+.1f} %"
    return f"{lift['estimate'] * 100:+.1f} % ({lower * 100:+.1f} to {upper * 100:+.1f})"


def _arms(primary: dict[str, Any]) -> str:
    arms = primary.get("arms", {})
    values = [arms.get(arm, {}).get("value") for arm in ("control", "treatment")]
    if any(value is None for value in values):
        return ""
    return f"{values[0] * 100:.3g} % with the stable version, {values[1] * 100:.3g} % with the candidate"
