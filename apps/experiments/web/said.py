"""Numbers of a readout as sentences and cells: percent and points for shares, ms for latency, plain for the rest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from apps.experiments.domain.words import CONTROL, TREATMENT, Status
from apps.experiments.models import Experiment
from apps.kernel.stats.decision import DecisionKind
from apps.kernel.stats.undefined import Reason

LEVELS: Final = {
    Status.DRAFT: ("unknown", "draft"),
    Status.PLANNED: ("unknown", "planned"),
    Status.STARTING: ("progressing", "starting"),
    Status.RUNNING: ("progressing", "running"),
    Status.BLOCKED: ("attention", "blocked"),
    Status.STOPPED: ("unknown", "stopped"),
    Status.DECIDED: ("ok", "decided"),
}
DECISIONS: Final = {
    DecisionKind.SHIP: ("ok", "Ship it"),
    DecisionKind.ROLL_BACK: ("bad", "Go back"),
    DecisionKind.KEEP_RUNNING: ("progressing", "Keep running"),
    DecisionKind.STOP_INCONCLUSIVE: ("attention", "Stop: no difference was found"),
    DecisionKind.BLOCKED: ("attention", "Blocked: no verdict holds until this is fixed"),
}
RAILS: Final = {"safe": ("ok", "safe"), "harmed": ("bad", "harmed"), "not_enough_data": ("attention", "too few data")}
SPLITS: Final = {
    "ok": ("ok", "as planned"),
    "suspected": ("attention", "suspected"),
    "mismatch": ("bad", "mismatch"),
    "no_data": ("unknown", "no data"),
}
NONE = "–"


@dataclass(frozen=True, slots=True)
class Row:
    """One metric in a table. ``share``: the interval's place on the axis of its table, or None."""

    name: str
    role: str
    control: str
    treatment: str
    difference: str
    interval: str
    lift: str
    p_value: str
    level: str
    word: str
    method: str
    undefined: str


def level_of(experiment: Experiment) -> tuple[str, str]:
    return LEVELS[Status(experiment.status)]


def decision_said(kind: str) -> tuple[str, str]:
    """(level, what to do)."""
    return DECISIONS[DecisionKind(kind)]


def value_said(metric: Mapping[str, Any], value: float | None) -> str:
    """An arm's value in the metric's own unit."""
    if value is None or not math.isfinite(value):
        return NONE
    if _is_share(metric):
        return f"{value * 100:.3g} %" if abs(value) < 0.1 else f"{value * 100:.4g} %"
    if metric["kind"] == "quantile":
        return f"{value * 1000:,.4g} ms"
    return f"{value:,.4g}"


def difference_said(metric: Mapping[str, Any], value: float | None) -> str:
    """A difference, signed; for shares in points."""
    if value is None:
        return NONE
    if not math.isfinite(value):
        return "∞" if value > 0 else "−∞"
    sign = "+" if value > 0 else "−" if value < 0 else ""
    if _is_share(metric):
        return f"{sign}{abs(value) * 100:.3g} pp"
    if metric["kind"] == "quantile":
        return f"{sign}{abs(value) * 1000:,.3g} ms"
    return f"{sign}{abs(value):,.4g}"


def range_said(metric: Mapping[str, Any], lower: float | None, upper: float | None) -> str:
    """Both ends of an interval; nothing where neither exists yet."""
    if lower is None and upper is None:
        return ""
    low = difference_said(metric, -math.inf if lower is None else lower)
    high = difference_said(metric, math.inf if upper is None else upper)
    return f"{low} to {high}"


def lift_said(lift: Mapping[str, Any] | None) -> str:
    if not lift:
        return NONE
    if "undefined" in lift:
        return "none from 0" if lift["undefined"] == Reason.ZERO_BASELINE else NONE
    if lift["lower"] is None or lift["upper"] is None:
        return f"{lift['estimate'] * 100:+.3g} %"
    return f"{lift['estimate'] * 100:+.3g} % ({lift['lower'] * 100:+.3g} to {lift['upper'] * 100:+.3g})"


def row_of(metric: Mapping[str, Any], role: str = "") -> Row:
    """One metric's numbers. What is better is said only where the fixed interval leaves 0 out."""
    difference, arms = metric["difference"], metric["arms"]
    is_undefined = "undefined" in difference
    p = metric.get("p_adjusted", difference.get("p_value"))
    level, word = ("unknown", "undefined") if is_undefined else _leaning(metric, difference)
    return Row(
        name=metric["name"],
        role=role,
        control=value_said(metric, arms[CONTROL]["value"]),
        treatment=value_said(metric, arms[TREATMENT]["value"]),
        difference=NONE if is_undefined else difference_said(metric, difference["estimate"]),
        interval="" if is_undefined else range_said(metric, difference["lower"], difference["upper"]),
        lift=lift_said(metric.get("lift")),
        p_value=NONE if p is None or is_undefined or not math.isfinite(p) else _p(p),
        level=level,
        word=word,
        method=difference.get("method", ""),
        undefined=difference.get("text", "") if is_undefined else "",
    )


def loss_said(result: Mapping[str, Any]) -> str:
    """What the choice would cost if it were wrong; "" where nothing is known (looks made before this was kept)."""
    decision, primary = result["decision"], result["primary"]
    loss, chance = decision.get("expected_loss") or {}, decision.get("chance_better")
    if chance is None or loss.get("ship") is None or loss.get("keep") is None:
        return ""
    ship, keep = (_loss(primary, loss[name]) for name in ("ship", "keep"))
    return (
        f"The new version is better with a chance of {chance:.1%}. Shipping it would lose {ship} on average, keeping "
        f"the old one {keep}. Stopping on this chance guards nothing; the boundary decides."
    )


def _loss(metric: Mapping[str, Any], value: float) -> str:
    """Without a sign, and without digits that mean nothing."""
    if _is_share(metric) and value < 1e-5:
        return "less than 0.001 pp"
    return difference_said(metric, value).lstrip("+")


def left_said(result: Mapping[str, Any]) -> str:
    """Days until the plan is full, by the measured curve, with their range; "" where there is no day yet, or none any
    more."""
    pace = {} if result.get("is_over") else result.get("pace") or {}
    left = pace.get("days_left")
    if not left:
        return ""
    return days_said(left, pace["daily"], "left")


def days_said(left: Mapping[str, Any], daily: Sequence[float], word: str) -> str:
    """About 9 days left (7 to 12, 80 %), by 5 whole days of 1,920 a day."""
    if left["likely"] == 0:
        return "All units that were planned are there."
    if left["likely"] is None:
        return "At this pace the units never come together: raise the coverage or the effect."
    latest = "never" if left["latest"] is None else f"{left['latest']:,}"
    days = "day" if len(daily) == 1 else "days"
    falls = f", falling as day^−{left['decline']:.2f}" if left["decline"] > 0.005 else ""
    return (
        f"About {left['likely']:,} days {word} ({left['soonest']:,} to {latest}, 80 % range), by {len(daily)} whole "
        f"{days}; {left['per_day']:,.0f} new units a day next{falls}."
    )


def ranks_said(metric: Mapping[str, Any]) -> dict[str, str] | None:
    """P(T > C) of one metric, None where there are no units to rank."""
    ranks = metric.get("ranks")
    if not ranks or "undefined" in ranks:
        return None
    units = ranks["units"]
    return {
        "name": metric["name"],
        "chance": f"{ranks['estimate']:.1%}",
        "interval": f"{ranks['lower']:.1%} to {ranks['upper']:.1%}",
        "p": _p(ranks["p_value"]),
        "of": f"{units[CONTROL]:,} and {units[TREATMENT]:,} units" + (", drawn by lot" if ranks["is_sample"] else ""),
    }


def clusters_said(metric: Mapping[str, Any]) -> str:
    """That a quantile's interval allows for several values of one unit, "" elsewhere."""
    effects = metric.get("clusters")
    if not effects:
        return ""
    return (
        f"{metric['name']}: values of one unit resemble each other; the interval is that of {effects[CONTROL]:.2f} and "
        f"{effects[TREATMENT]:.2f} times fewer independent values."
    )


def head_sentence(experiment: Experiment) -> str:
    """What is going on, in one sentence."""
    status, note = Status(experiment.status), experiment.note.strip().removesuffix(".")
    match status:
        case Status.DRAFT:
            return "Nothing runs. Plan it to fix its size; until it starts, everything may still change."
        case Status.PLANNED:
            return (
                f"{experiment.planned_total:,} units over both arms, at least {experiment.minimum_days} days. "
                "Nothing runs yet."
            )
        case Status.STARTING:
            return f"Starting: {note}."
        case Status.STOPPED:
            return f"Stopped without a verdict: {note}. All traffic is back on the stable version."
        case Status.DECIDED:
            return f"Decided: {note}."
        case _:
            return experiment.note or "Both versions serve, units are being counted."


def _leaning(metric: Mapping[str, Any], difference: Mapping[str, Any]) -> tuple[str, str]:
    lower, upper = difference["lower"], difference["upper"]
    if (lower is None or lower <= 0.0) and (upper is None or upper >= 0.0):
        return "unknown", "no difference shown"
    is_up = difference["estimate"] > 0.0
    return ("ok", "better") if is_up is metric["higher_is_better"] else ("bad", "worse")


def _is_share(metric: Mapping[str, Any]) -> bool:
    return bool(metric["kind"] == "proportion")


def _p(value: float) -> str:
    return "< .0001" if value < 1e-4 else f"{value:.4f}".removeprefix("0")
