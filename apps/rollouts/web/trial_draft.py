"""The experiment of an A/B rollout in the wizard: from what was typed to the step that decides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from apps.experiments.domain.design import Design
from apps.kernel.errors import InvalidInput
from apps.kernel.typed import number_typed
from apps.rollouts.domain.plan import FULL_BP, Inconclusive, Step, StepKind

ERRORS, SLOW, EVENT = "errors", "slow", "event"
METRICS: Final = (
    (ERRORS, "fewer requests fail"),
    (SLOW, "fewer requests are slow"),
    (EVENT, "more users do something that you report"),
)
UNITS: Final = (("user", "user"), ("session", "session"))
THEN: Final = (
    (Inconclusive.KEEP_STABLE.value, "keep the stable version"),
    (Inconclusive.ASK.value, "ask somebody who did not start it"),
)
TRIAL_FIELDS: Final = (
    "ab_metric", "ab_event", "ab_slow_ms", "ab_unit", "ab_baseline", "ab_effect", "ab_share", "ab_alpha", "ab_power",
    "ab_days", "ab_total", "ab_per_day", "ab_look", "ab_margin", "ab_then", "ab_why",
)  # fmt: skip
TRIAL_DEFAULTS: Final = {
    "ab_metric": ERRORS, "ab_slow_ms": "500", "ab_unit": "user", "ab_baseline": "3", "ab_effect": "20",
    "ab_share": "50", "ab_alpha": "5", "ab_power": "80", "ab_days": "14", "ab_look": "24 h",
    "ab_then": Inconclusive.KEEP_STABLE.value, "ab_why": "The new version does better than the one that serves now.",
}  # fmt: skip
_LOOKS: Final = {"s": 1, "min": 60, "h": 3600}


class Typed:
    """Reads numbers out of ``values``; what is none becomes a fault at its field and None."""

    def __init__(self, values: Mapping[str, str], faults: dict[str, str]) -> None:
        self._values, self._faults = values, faults

    def text(self, name: str) -> str:
        return self._values.get(name, "").strip()

    def number(self, name: str, low: float, high: float, *, is_optional: bool = False) -> float | None:
        given = self.text(name)
        if is_optional and not given:
            return None
        try:
            value = number_typed(given)
        except ValueError:
            self._faults[name] = f"{given or 'Nothing'} is not a number; write one from {low:g} to {high:g}."
            return None
        if not low <= value <= high:
            self._faults[name] = f"{given} is outside {low:g} to {high:g}."
            return None
        return value

    def choice(self, name: str, known: tuple[tuple[str, str], ...]) -> str:
        given = self.text(name)
        if given not in {value for value, _ in known}:
            self._faults[name] = "Choose one from the list."
        return given

    def seconds(self, name: str) -> int | None:
        """ "24 h", "5 min", "20 s"."""
        number, _, unit = self.text(name).partition(" ")
        if not number.isdigit() or unit not in _LOOKS or not 5 <= int(number) * _LOOKS[unit] <= 604_800:
            self._faults[name] = "Write how often as 24 h, 30 min or 20 s; from 5 s to 168 h."
            return None
        return int(number) * _LOOKS[unit]

    def fault(self, name: str, sentence: str) -> None:
        self._faults.setdefault(name, sentence)


def trial_step(values: Mapping[str, str], faults: dict[str, str]) -> Step | None:
    """The step that was typed; None where ``faults`` says why not."""
    typed, before = Typed(values, faults), len(faults)
    metric = typed.choice("ab_metric", METRICS)
    then = typed.choice("ab_then", THEN)
    look = typed.seconds("ab_look")
    per_day = typed.number("ab_per_day", 0.001, 1e12, is_optional=True)
    raw = _design(typed, metric)
    if len(faults) > before or look is None:
        return None
    try:
        design = Design.from_json(raw)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput.at("/ab_metric", "malformed", f"The experiment cannot be read: {error}.") from error
    return Step(
        StepKind.EXPERIMENT,
        design=design,
        on_inconclusive=Inconclusive(then),
        units_per_day=per_day,
        look_seconds=look,
    )


def _design(typed: Typed, metric: str) -> dict[str, Any]:
    share = typed.number("ab_share", 1, 99) or 50.0
    effect = (typed.number("ab_effect", 0.1, 10_000) or 0.0) / 100
    total = typed.number("ab_total", 2, 1e12, is_optional=True)
    days = typed.number("ab_days", 0, 365)
    if days == 0 and total is None:
        typed.fault("ab_total", "Without a minimum of days, say how many units are planned.")
    if not typed.text("ab_why"):
        typed.fault("ab_why", "Say what you expect and why, before you look.")
    found, is_event = _metric(typed, metric), metric == EVENT
    treatment = round(share * 100)
    return {
        "hypothesis": typed.text("ab_why"),
        "unit": typed.choice("ab_unit", UNITS) if is_event else "request",
        "weights_bp": {"control": FULL_BP - treatment, "treatment": treatment},
        "primary": found["key"],
        "baseline": (typed.number("ab_baseline", 0.001, 99.9) or 0.0) / 100,
        "effect_relative": effect if is_event else -effect,
        "alpha": (typed.number("ab_alpha", 0.1, 50) or 5.0) / 100,
        "power": (typed.number("ab_power", 50, 99.9) or 80.0) / 100,
        "minimum_days": int(days or 0),
        "planned_total": None if total is None else int(total),
        **_guarded(typed, found, is_event=is_event),
    }


def _metric(typed: Typed, metric: str) -> dict[str, Any]:
    if metric == EVENT:
        event = typed.text("ab_event")
        if not event:
            typed.fault("ab_event", "Name the outcome event that your program reports.")
        return {"key": "outcome", "name": event, "kind": "proportion", "event": event}
    worse = {"kind": "proportion", "higher_is_better": False}
    if metric == SLOW:
        limit = (typed.number("ab_slow_ms", 1, 600_000) or 500.0) / 1000
        name = f"requests over {limit * 1000:g} ms"
        return {"key": "slow", "name": name, "source": "latency", "threshold_seconds": limit, **worse}
    return {"key": "errors", "name": "failed requests", "source": "errors", **worse}


def _guarded(typed: Typed, found: dict[str, Any], *, is_event: bool) -> dict[str, Any]:
    """Errors guarded by a margin against the control; requests alone can be compared so."""
    margin = typed.number("ab_margin", 0, 50, is_optional=True)
    if margin is None or found["key"] == "errors":
        return {"metrics": [found]}
    if is_event:
        typed.fault("ab_margin", "Failed requests count requests, the units are not: leave it empty; guardrails go on.")
    errors = {"key": "errors", "name": "failed requests", "kind": "proportion", "source": "errors",
              "higher_is_better": False}  # fmt: skip
    return {"metrics": [found, errors], "guardrails": [{"metric": "errors", "margin": margin / 100}]}
