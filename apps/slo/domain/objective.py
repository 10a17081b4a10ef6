"""An objective in numbers: what counts as bad, how much of it is allowed, over how long, and when somebody is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Any
from urllib.parse import urlsplit

from apps.kernel.errors import FieldError, InvalidInput
from apps.slo.domain.policy import FOUR_TIERS, PERIODS, PPM, Policy, never_fires, percent, policy_parse

NAME_MAX = 80
MAX_LIMIT_MS = 600_000
MAX_WINDOW_SECONDS = 3_600


class Kind(StrEnum):
    """AVAILABILITY: answered well of all that the model is answerable for. ERRORS: without a fault of the model's side.
    LATENCY: the share of requests answered within ``limit_ms``. PERCENTILE: a plain threshold on a percentile over the
    last ``window_seconds``, without a budget: at a target of 50 % no burn tier could ever fire."""

    AVAILABILITY = "availability"
    ERRORS = "errors"
    LATENCY = "latency"
    PERCENTILE = "percentile"


class Scope(StrEnum):
    """One account for all versions together, or one for each."""

    ALL = "all"
    EACH = "each"


SUM_KIND: Mapping[Kind, str] = {
    Kind.AVAILABILITY: "availability",
    Kind.ERRORS: "errors",
    Kind.LATENCY: "slow",
    Kind.PERCENTILE: "slow",
}
"""What telemetry calls the sums that a kind is measured by."""
TIMED = frozenset({Kind.LATENCY, Kind.PERCENTILE})


@dataclass(frozen=True, slots=True)
class ObjectiveSpec:
    """``target_ppm``: parts per million of the requests that must be good (for PERCENTILE: the percentile itself)."""

    name: str
    kind: Kind
    target_ppm: int
    scope: Scope = Scope.ALL
    limit_ms: int | None = None
    window_seconds: int | None = None
    period_days: int = 30
    policy: Policy = FOUR_TIERS
    runbook_url: str = ""

    @property
    def allowed(self) -> Fraction:
        """The share of requests that may be bad: 1 - target."""
        return Fraction(PPM - self.target_ppm, PPM)

    @property
    def limit_seconds(self) -> float | None:
        return None if self.limit_ms is None else self.limit_ms / 1000

    @property
    def sentence(self) -> str:
        """``99.5 % of requests are answered, over 30 days``."""
        over = f"over {self.period_days} days"
        match self.kind:
            case Kind.AVAILABILITY:
                return f"{percent(self.target_ppm)} of requests are answered well, {over}"
            case Kind.ERRORS:
                return f"fewer than {percent(PPM - self.target_ppm)} of requests end in an error, {over}"
            case Kind.LATENCY:
                return f"{percent(self.target_ppm)} of requests are answered within {self.limit_ms} ms, {over}"
            case Kind.PERCENTILE:
                minutes = (self.window_seconds or 0) // 60
                return f"p{percent(self.target_ppm)[:-2]} of the last {minutes} min is at most {self.limit_ms} ms"


DEFAULTS: tuple[ObjectiveSpec, ...] = (
    ObjectiveSpec("p95 under 500 ms", Kind.LATENCY, 950_000, limit_ms=500),
    ObjectiveSpec("p99 under 1000 ms", Kind.LATENCY, 990_000, limit_ms=1000),
    ObjectiveSpec("availability", Kind.AVAILABILITY, 995_000),
    ObjectiveSpec("error rate", Kind.ERRORS, 999_000),
    ObjectiveSpec("p50 under 200 ms", Kind.PERCENTILE, 500_000, limit_ms=200, window_seconds=300),
)
"""What every new endpoint begins with."""


def objective_parse(given: Mapping[str, Any]) -> ObjectiveSpec:
    """Raises InvalidInput naming every field that is wrong; ``never_fires`` where a tier could not fire at all."""
    faults: list[FieldError] = []
    kind = _choice(given.get("kind"), Kind, "/kind", faults)
    scope = _choice(given.get("scope", Scope.ALL), Scope, "/scope", faults)
    name = str(given.get("name", "")).strip()
    if not 1 <= len(name) <= NAME_MAX:
        faults.append(FieldError("/name", "invalid", f"name has 1 to {NAME_MAX} characters."))
    target = _number(given.get("target_ppm"), "/target_ppm", 1, PPM - 1, faults)
    period = _number(given.get("period_days", 30), "/period_days", PERIODS[0], PERIODS[-1], faults)
    limit = _only_for(given.get("limit_ms"), "/limit_ms", kind in TIMED, 1, MAX_LIMIT_MS, faults)
    window = given.get("window_seconds") or (300 if kind is Kind.PERCENTILE else None)
    window = _only_for(window, "/window_seconds", kind is Kind.PERCENTILE, 60, MAX_WINDOW_SECONDS, faults)
    if window and window % 60:
        faults.append(FieldError("/window_seconds", "not_whole_minutes", "window_seconds is whole minutes."))
    runbook = str(given.get("runbook_url") or "").strip()
    if runbook and not _is_link(runbook):
        faults.append(FieldError("/runbook_url", "invalid", "runbook_url is an http:// or https:// address."))
    policy = _policy(given.get("policy"), faults)
    if not faults and policy is not None and kind is not Kind.PERCENTILE:
        faults += _impossible(policy, target, period)
    if faults or kind is None or scope is None or policy is None:
        raise InvalidInput(faults[0].code, faults[0].detail, fields=tuple(faults))
    return ObjectiveSpec(name, kind, target, scope, limit, window, period, policy, runbook)


def _policy(given: Mapping[str, Any] | None, faults: list[FieldError]) -> Policy | None:
    try:
        return policy_parse(given)
    except InvalidInput as error:
        faults += error.fields
        return None


def _impossible(policy: Policy, target: int, period: int) -> list[FieldError]:
    own = policy.profile.value == "custom"
    faults = [
        FieldError(f"/policy/tiers/{place}/budget_bp" if own else "/policy/profile", "never_fires", text)
        for place, text in never_fires(policy.tiers, target, period)
    ]
    for place, tier in enumerate(policy.tiers):
        if tier.long_seconds > period * 86_400:
            text = f"{tier.name} looks back over {tier.long_seconds // 3600} h, longer than the period of {period} d."
            faults.append(
                FieldError(f"/policy/tiers/{place}/long_seconds" if own else "/period_days", "too_long", text)
            )
    return faults


def _choice(value: Any, choices: Any, pointer: str, faults: list[FieldError]) -> Any:
    if value in list(choices):
        return choices(value)
    names = ", ".join(one.value for one in choices)
    faults.append(FieldError(pointer, "invalid", f"{pointer[1:]} is one of {names}."))
    return None


def _number(value: Any, pointer: str, low: int, high: int, faults: list[FieldError]) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return value
    faults.append(FieldError(pointer, "out_of_range", f"{pointer[1:]} is a whole number from {low:,} to {high:,}."))
    return 0


def _only_for(value: Any, pointer: str, is_wanted: bool, low: int, high: int, faults: list[FieldError]) -> int | None:
    if is_wanted:
        return _number(value, pointer, low, high, faults)
    if value is not None:
        faults.append(FieldError(pointer, "not_for_this_kind", f"{pointer[1:]} has no meaning for this kind."))
    return None


def _is_link(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and len(text) <= 500 and text.isprintable()
