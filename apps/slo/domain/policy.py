"""When an objective alerts: tiers, each with a long and a short window and the share of the budget that it may cost.

A tier is stored by the share of the period's error budget that burning through its long window would cost, because that
is what a person can reason about; the factor follows for any period: factor = share x period / long window. Two per
cent in one hour of thirty days is 14.4 times the pace that lasts exactly the period. (Google SRE Workbook, chapter 5,
"Multiwindow, Multi-Burn-Rate Alerts".)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Any

from apps.kernel.errors import FieldError, InvalidInput

PPM = 1_000_000
FULL_BP = 10_000
DAY_SECONDS = 86_400
MAX_LONG_SECONDS = 3 * DAY_SECONDS
MAX_TIERS = 6
PERIODS = range(1, 91)
MIN_BAD = 5


class Severity(StrEnum):
    PAGE = "page"
    TICKET = "ticket"


class Profile(StrEnum):
    FOUR_TIERS = "four_tiers"
    FAST_SLOW = "fast_slow"
    CUSTOM = "custom"


@dataclass(frozen=True, slots=True)
class Tier:
    """``budget_bp``: basis points of the period's budget that the long window costs when the tier's factor is met."""

    name: str
    severity: Severity
    long_seconds: int
    short_seconds: int
    budget_bp: int

    def factor(self, period_days: int) -> Fraction:
        """How many times faster than "gone exactly at the end of the period" the budget must go for this tier."""
        return Fraction(self.budget_bp, FULL_BP) * Fraction(period_days * DAY_SECONDS, self.long_seconds)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "severity": self.severity.value,
            "long_seconds": self.long_seconds,
            "short_seconds": self.short_seconds,
            "budget_bp": self.budget_bp,
        }


@dataclass(frozen=True, slots=True)
class Policy:
    """``min_bad``: a tier stays silent below so many bad events in its long window. ``floor_requests``: at least so
    many requests a period are assumed when asking how much of the budget was really spent."""

    profile: Profile
    tiers: tuple[Tier, ...]
    min_bad: int = MIN_BAD
    floor_requests: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "profile": self.profile.value,
            "tiers": [tier.to_json() for tier in self.tiers],
            "min_bad": self.min_bad,
            "floor_requests": self.floor_requests,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Policy:
        """What ``to_json`` made; for what was stored, unchecked."""
        tiers = tuple(
            Tier(one["name"], Severity(one["severity"]), one["long_seconds"], one["short_seconds"], one["budget_bp"])
            for one in stored["tiers"]
        )
        return cls(Profile(stored["profile"]), tiers, stored["min_bad"], stored["floor_requests"])


_HOUR = 3_600
FOUR_TIERS = Policy(
    Profile.FOUR_TIERS,
    (
        Tier("page fast", Severity.PAGE, _HOUR, 300, 200),
        Tier("page slow", Severity.PAGE, 6 * _HOUR, 1_800, 500),
        Tier("ticket fast", Severity.TICKET, 24 * _HOUR, 2 * _HOUR, 1_000),
        Tier("ticket slow", Severity.TICKET, 72 * _HOUR, 6 * _HOUR, 1_000),
    ),
)
FAST_SLOW = Policy(
    Profile.FAST_SLOW,
    (
        Tier("fast", Severity.PAGE, _HOUR, 300, 200),
        Tier("slow", Severity.TICKET, 6 * _HOUR, 1_800, 500),
    ),
)
PROFILES: Mapping[Profile, Policy] = {Profile.FOUR_TIERS: FOUR_TIERS, Profile.FAST_SLOW: FAST_SLOW}


def policy_parse(given: Mapping[str, Any] | None) -> Policy:
    """``{"profile", "tiers"?, "min_bad"?, "floor_requests"?}`` of one's own tiers or a profile's; None is the default.

    Raises InvalidInput naming every field that is wrong, as ``/policy/…``.
    """
    given = given or {}
    names = ", ".join(profile.value for profile in Profile)
    wanted = given.get("profile") or (Profile.CUSTOM if given.get("tiers") else Profile.FOUR_TIERS)
    if wanted not in list(Profile):
        raise InvalidInput.at("/policy/profile", "unknown_profile", f"profile is one of {names}.")
    profile = Profile(wanted)
    min_bad, floor = given.get("min_bad", MIN_BAD), given.get("floor_requests", 0)
    faults = _whole("/policy/min_bad", min_bad, 1, 1_000_000) + _whole("/policy/floor_requests", floor, 0, 10**12)
    if profile is not Profile.CUSTOM:
        own = [tier.to_json() for tier in PROFILES[profile].tiers]
        if given.get("tiers") and list(given["tiers"]) != own:
            text = f"The tiers of {profile} are fixed; for your own leave profile out or say custom."
            faults.append(FieldError("/policy/tiers", "not_for_this_profile", text))
        _refuse(faults)
        return Policy(profile, PROFILES[profile].tiers, min_bad, floor)
    tiers = given.get("tiers") or ()
    if not 1 <= len(tiers) <= MAX_TIERS:
        text = f"A policy of one's own has 1 to {MAX_TIERS} tiers."
        faults.append(FieldError("/policy/tiers", "wrong_number", text))
    for number, tier in enumerate(tiers):
        faults += _tier_faults(f"/policy/tiers/{number}", tier)
    names_given = [tier.get("name") for tier in tiers]
    faults += [
        FieldError(f"/policy/tiers/{place}/name", "repeated", f"Two tiers are called {name}; incidents name them.")
        for place, name in enumerate(names_given)
        if name in names_given[:place]
    ]
    _refuse(faults)
    return Policy.from_json({"profile": profile, "tiers": list(tiers), "min_bad": min_bad, "floor_requests": floor})


def never_fires(tiers: Sequence[Tier], target_ppm: int, period_days: int) -> list[tuple[int, str]]:
    """The tiers that cannot fire whatever happens: (place, sentence). All requests failing burns 1/(1 - target)."""
    most = Fraction(PPM, PPM - target_ppm)
    return [
        (
            place,
            f"{tier.name} fires above {float(tier.factor(period_days)):.4g} times the budget's pace, but at a target "
            f"of {percent(target_ppm)} even every request failing is only {float(most):.4g} times: it can never fire. "
            "Lower its share of the budget, take a longer window or a stricter target.",
        )
        for place, tier in enumerate(tiers)
        if tier.factor(period_days) >= most
    ]


def percent(ppm: int) -> str:
    """``99.5 %`` of 995000, without trailing zeros."""
    return f"{ppm / 10_000:.4f}".rstrip("0").rstrip(".") + " %"


def _tier_faults(at: str, tier: Mapping[str, Any]) -> list[FieldError]:
    faults: list[FieldError] = []
    name, long, short = tier.get("name"), tier.get("long_seconds"), tier.get("short_seconds")
    if not isinstance(name, str) or not 1 <= len(name.strip()) <= 40:
        faults.append(FieldError(f"{at}/name", "invalid", "A tier's name has 1 to 40 characters."))
    if tier.get("severity") not in list(Severity):
        faults.append(FieldError(f"{at}/severity", "invalid", "severity is page or ticket."))
    faults += _whole(f"{at}/budget_bp", tier.get("budget_bp"), 1, FULL_BP)
    for field, value in (("long_seconds", long), ("short_seconds", short)):
        found = _whole(f"{at}/{field}", value, 60, MAX_LONG_SECONDS)
        if not found and value % 60:  # type: ignore[operator]
            found = [FieldError(f"{at}/{field}", "not_whole_minutes", f"{field} is a whole number of minutes.")]
        faults += found
    if isinstance(long, int) and isinstance(short, int) and short >= long:
        text = "The short window must be shorter than the long one: it is what ends an alert soon after recovery."
        faults.append(FieldError(f"{at}/short_seconds", "too_long", text))
    return faults


def _whole(pointer: str, value: Any, low: int, high: int) -> list[FieldError]:
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return []
    name = pointer.rsplit("/", 1)[1]
    return [FieldError(pointer, "out_of_range", f"{name} is a whole number from {low:,} to {high:,}.")]


def _refuse(faults: list[FieldError]) -> None:
    if faults:
        raise InvalidInput(faults[0].code, faults[0].detail, fields=tuple(faults))
