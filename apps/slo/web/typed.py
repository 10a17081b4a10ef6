"""The form of an objective: what was typed, as an objective, and an objective back as what would have been typed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from apps.kernel.errors import DomainError, FieldError
from apps.kernel.typed import TypedForm
from apps.slo.domain.objective import (
    MAX_LIMIT_MS,
    MAX_WINDOW_SECONDS,
    NAME_MAX,
    TIMED,
    Kind,
    ObjectiveSpec,
    Scope,
)
from apps.slo.domain.policy import (
    FOUR_TIERS,
    MAX_LONG_SECONDS,
    PERIODS,
    PPM,
    Policy,
    Profile,
    Severity,
    Tier,
    percent,
)
from apps.slo.domain.state import span

KINDS: Final = (
    (Kind.AVAILABILITY.value, "Availability", "answered at all: no timeout, no 5xx of the server's"),
    (Kind.ERRORS.value, "Error rate", "answered without any error, the model's own counted as well"),
    (Kind.LATENCY.value, "Latency", "the share of requests answered within a bound"),
    (Kind.PERCENTILE.value, "Percentile", "a plain threshold over the last minutes, without a budget"),
)
SCOPES: Final = (
    (Scope.ALL.value, "All versions together", "what callers of the endpoint meet"),
    (Scope.EACH.value, "Each version by itself", "a budget for every version that it runs"),
)
PROFILES_SHOWN: Final = (
    (Profile.FOUR_TIERS.value, "Four tiers", "1 h and 6 h page, 1 d and 3 d open a ticket"),
    (Profile.FAST_SLOW.value, "Two tiers", "1 h pages, 6 h opens a ticket"),
    (Profile.CUSTOM.value, "My own", "one tier a line, below"),
)
FIELDS: Final = (
    "name", "kind", "target", "limit_ms", "window_minutes", "period_days", "scope", "profile", "tiers", "min_bad",
    "floor_requests", "runbook_url", "is_enabled", "days",
)  # fmt: skip
LINE: Final = re.compile(
    r"^(?P<name>[^:]{1,40}):\s*(?P<severity>page|ticket)\s*,?\s+(?P<long>\d+)\s*(?P<long_unit>m|min|h|d)\s*/\s*"
    r"(?P<short>\d+)\s*(?P<short_unit>m|min|h|d)\s*,?\s+(?P<budget>[\d.]+)\s*%$"
)
_RANGES: Final = {
    "target": f"From {percent(1)} to {percent(PPM - 1)}, with four places at most.",
    "limit_ms": f"Whole milliseconds, from 1 to {MAX_LIMIT_MS:,}.",
    "window_minutes": f"Whole minutes, from 1 to {MAX_WINDOW_SECONDS // 60}.",
    "period_days": f"Whole days, from {PERIODS[0]} to {PERIODS[-1]}.",
    "min_bad": "A whole number from 1 to 1,000,000.",
    "floor_requests": "A whole number from 0 to 1,000,000,000,000.",
    "name": f"A name has 1 to {NAME_MAX} characters.",
    "runbook_url": "An address that begins with http:// or https://.",
}
"""What the form asks for, in its own units, where the service names the fields of the API."""
_TIERS: Final = re.compile(r"policy/tiers/(\d+)/(\w+)")
_OF_TIER: Final = {
    "budget_bp": "its share of the budget lies between 0.01 % and 100 %.",
    "long_seconds": f"its long window lasts from 1 min to {MAX_LONG_SECONDS // 86_400} d.",
    "short_seconds": f"its short window lasts from 1 min to {MAX_LONG_SECONDS // 86_400} d.",
}
_SECONDS: Final = {"m": 60, "min": 60, "h": 3_600, "d": 86_400}
_PLACES: Final = {
    "target_ppm": "target", "window_seconds": "window_minutes", "policy/profile": "profile",
    "policy/min_bad": "min_bad", "policy/floor_requests": "floor_requests",
}  # fmt: skip


class Typed(TypedForm):
    MOST: ClassVar = 1e15

    @classmethod
    def read(cls, posted: Mapping[str, str]) -> Typed:
        return cls({name: posted.get(name, "").strip()[:4000] for name in FIELDS})

    @classmethod
    def of(cls, spec: ObjectiveSpec, *, is_enabled: bool = True) -> Typed:
        """What would have been typed for it."""
        policy = spec.policy
        return cls({
            "name": spec.name,
            "kind": spec.kind.value,
            "target": percent(spec.target_ppm).removesuffix(" %"),
            "limit_ms": str(spec.limit_ms or ""),
            "window_minutes": str((spec.window_seconds or 300) // 60),
            "period_days": str(spec.period_days),
            "scope": spec.scope.value,
            "profile": policy.profile.value,
            "tiers": "\n".join(_line(tier) for tier in policy.tiers),
            "min_bad": str(policy.min_bad),
            "floor_requests": str(policy.floor_requests),
            "runbook_url": spec.runbook_url,
            "is_enabled": "on" if is_enabled else "",
            "days": "30",
        })  # fmt: skip

    def given(self) -> dict[str, Any]:
        """The objective as JSON. What is no number becomes a fault here; the rest is told by the service.
        Raises InvalidInput."""
        kind = self["kind"]
        target = self.number("target")
        window = self.whole("window_minutes", 5)
        found: dict[str, Any] = {
            "name": self["name"],
            "kind": kind,
            "target_ppm": None if target is None else round(target * 10_000),
            "scope": self["scope"] or Scope.ALL.value,
            "limit_ms": self.whole("limit_ms") if kind in TIMED else None,
            "window_seconds": None if kind != Kind.PERCENTILE or window is None else window * 60,
            "period_days": self.whole("period_days", 30),
            "runbook_url": self["runbook_url"],
            "policy": self._policy(),
        }
        self.refuse_faults()
        return found

    def place(self, error: DomainError) -> None:
        """The service's faults at this form's fields; what belongs to none stands under ""."""
        for item in error.fields:
            field, said = self.said(item)
            text = self.faults.get(field, "")
            self.faults[field] = text if said in text else f"{text} {said}".strip()
        if not error.fields:
            self.faults.setdefault("", error.detail)

    def said(self, item: FieldError) -> tuple[str, str]:
        """The field of the form that a fault belongs to ("" for none), and its sentence in the form's own words."""
        name = item.pointer.strip("/")
        if tier := _TIERS.match(name):
            lines = [line for line in self["tiers"].splitlines() if line.strip()]
            number = int(tier[1])
            text = _OF_TIER.get(tier[2], item.detail) if item.code == "out_of_range" else item.detail
            called = lines[number].partition(":")[0].strip()[:40] if number < len(lines) else ""
            if called and text.startswith(called):
                return "tiers", text
            return "tiers", f"Tier {number + 1}{f' ({called})' if called else ''}: {text[:1].lower()}{text[1:]}"
        field = _PLACES.get(name, "tiers" if name.startswith("policy/tiers") else name)
        plain = _RANGES.get(field, item.detail) if item.code in {"out_of_range", "invalid"} else item.detail
        return (field if field in FIELDS else ""), plain

    def _policy(self) -> dict[str, Any]:
        profile = self["profile"] or Profile.FOUR_TIERS.value
        found: dict[str, Any] = {
            "profile": profile,
            "min_bad": self.whole("min_bad", FOUR_TIERS.min_bad),
            "floor_requests": self.whole("floor_requests", 0),
        }
        if profile == Profile.CUSTOM:
            found["tiers"] = self._tiers()
        return found

    def _tiers(self) -> list[dict[str, Any]]:
        found = []
        for number, line in enumerate(self["tiers"].splitlines(), 1):
            match = LINE.match(line.strip())
            if not line.strip():
                continue
            if match is None:
                self.faults["tiers"] = f"Line {number} ({line[:40]!r}) is not like: page fast: page 1h/5m 2 %"
                break
            found.append(
                {
                    "name": match["name"].strip(),
                    "severity": match["severity"],
                    "long_seconds": int(match["long"]) * _SECONDS[match["long_unit"]],
                    "short_seconds": int(match["short"]) * _SECONDS[match["short_unit"]],
                    "budget_bp": round(float(match["budget"]) * 100) if match["budget"].count(".") < 2 else 0,
                }
            )
        return found


def policy_rows(policy: Policy, period_days: int) -> list[dict[str, Any]]:
    """Tiers as a table: windows in words, the share of the budget, the factor that follows."""
    return [
        {
            "name": tier.name,
            "severity": tier.severity.value,
            "long": span(tier.long_seconds),
            "short": span(tier.short_seconds),
            "budget": f"{tier.budget_bp / 100:g} %",
            "factor": f"{float(tier.factor(period_days)):.4g}",
            "is_page": tier.severity is Severity.PAGE,
        }
        for tier in policy.tiers
    ]


def _line(tier: Tier) -> str:
    long, short = _units(tier.long_seconds), _units(tier.short_seconds)
    return f"{tier.name}: {tier.severity.value} {long}/{short} {tier.budget_bp / 100:g} %"


def _units(seconds: int) -> str:
    """One number and one unit, as LINE reads it."""
    unit = next(unit for unit in ("d", "h", "m") if seconds % _SECONDS[unit] == 0)
    return f"{seconds // _SECONDS[unit]}{unit}"
