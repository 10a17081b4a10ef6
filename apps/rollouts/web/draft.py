"""The wizard's draft: everything chosen so far, in the query string, so that every step has an address to share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from apps.kernel.errors import InvalidInput
from apps.kernel.typed import number_typed
from apps.rollouts.domain.plan import GateSpec, Metric, Step, Strategy
from apps.rollouts.domain.strategies import FAST, PROFILES, STANDARD, approval_step
from apps.rollouts.domain.validate import MAX_WARM_SECONDS
from apps.rollouts.services.approvers import PRODUCTION
from apps.rollouts.services.lifecycle import SUPERSEDE
from apps.rollouts.web.trial_draft import EVENT, TRIAL_DEFAULTS, TRIAL_FIELDS, trial_step

STEPS: Final = (
    ("what", "What"),
    ("where", "Where"),
    ("how", "How"),
    ("guardrails", "Guardrails"),
    ("plan", "Plan"),
    ("start", "Start"),
)
FIELDS: Final = (
    "model", "version", "note", "endpoint", "strategy", "profile", "keep_warm", "approval", "errors", "error_limit",
    "slow", "slow_ms", "slow_limit", "available", "available_limit", "on_busy", *TRIAL_FIELDS,
)  # fmt: skip
STEP_OF: Final = {
    "model": "what", "version": "what", "note": "what", "endpoint": "where", "strategy": "how", "profile": "how",
    "approval": "how", "keep_warm": "how",
    "error_limit": "guardrails", "slow_ms": "guardrails", "slow_limit": "guardrails", "available_limit": "guardrails",
    "on_busy": "plan", **dict.fromkeys(TRIAL_FIELDS, "how"),
}  # fmt: skip
DEFAULTS: Final = {
    "strategy": Strategy.CANARY.value, "profile": STANDARD, "errors": "on", "error_limit": "1", "slow": "on",
    "slow_ms": "500", "slow_limit": "1", "available": "", "available_limit": "99", "on_busy": "reject",
    **TRIAL_DEFAULTS,
}  # fmt: skip
PROFILE_WORDS: Final = {
    STANDARD: "Standard: 15, 30 and 60 minutes at 5, 25 and 50 %",
    FAST: "Fast, for trying out: 15 to 20 seconds per step",
}
APPROVALS: Final = {"no": 0, "one": 1, "two": 2}
"""How many must approve. Not chosen yet: one for production, nobody elsewhere."""
NOTE_LENGTH: Final = 500


@dataclass(slots=True)
class Draft:
    """Values as text, and the faults found so far (field -> sentence)."""

    values: dict[str, str]
    faults: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, query: Mapping[str, str]) -> Draft:
        """From a query string. A box that was shown and left empty is off: ``boxes`` says that they were shown."""
        values = {**DEFAULTS, **{name: query[name].strip() for name in FIELDS if name in query}}
        if "boxes" in query:
            values |= {name: query.get(name, "") for name in ("errors", "slow", "available")}
        if "@" in query.get("pick", ""):
            values["model"], values["version"] = query["pick"].rsplit("@", 1)
        values["note"] = values.get("note", "")[:NOTE_LENGTH]
        return cls(values)

    def __getitem__(self, name: str) -> str:
        """A value, empty when nothing was chosen. KeyError for what is no field: templates then ask the attributes."""
        if name not in FIELDS:
            raise KeyError(name)
        return self.values.get(name, "")

    @property
    def strategy(self) -> Strategy:
        """Raises InvalidInput at /strategy."""
        try:
            return Strategy(self["strategy"])
        except ValueError:
            known = ", ".join(strategy.value for strategy in Strategy)
            raise InvalidInput.at("/strategy", "unknown_strategy", f"Choose one of {known}.") from None

    @property
    def strategy_word(self) -> str:
        return "A/B" if self.is_ab else self["strategy"].replace("_", "-")

    @property
    def is_ab(self) -> bool:
        return self["strategy"] == Strategy.AB

    @property
    def is_by_event(self) -> bool:
        """Whether the experiment counts reported outcomes, so that callers bring their arm."""
        return self["ab_metric"] == EVENT

    def experiment(self) -> Step | None:
        """The step that decides an A/B rollout. What cannot be read becomes a fault at its field."""
        return trial_step(self.values, self.faults) if self.is_ab else None

    def approval_word(self, environment: str) -> str:
        """What was chosen, else what is proposed for the endpoint's environment."""
        return self["approval"] or ("one" if environment == PRODUCTION else "no")

    def approval(self, environment: str) -> Step | None:
        """The approval step before 100 %, if one is wanted; a shadow has nothing to approve."""
        quorum = APPROVALS.get(self.approval_word(environment), 0)
        return approval_step(quorum) if quorum and self["strategy"] != Strategy.SHADOW else None

    def keep_warm_seconds(self) -> int | None:
        """How long the old version stays up after the promotion; None, the pace's own, where nothing was said or
        nothing can be kept. A faulty number becomes a fault."""
        if not self["keep_warm"] or not self.keeps_warm:
            return None
        seconds = self._number("keep_warm", 0, MAX_WARM_SECONDS)
        if seconds is not None and not seconds.is_integer():
            self.faults["keep_warm"] = f"{self['keep_warm']} is no whole number of seconds."
            return None
        return None if seconds is None else int(seconds)

    @property
    def keeps_warm(self) -> bool:
        """Whether the strategy leaves an old version that could be kept."""
        return self["strategy"] not in {Strategy.SHADOW, Strategy.RECREATE}

    @property
    def carried(self) -> dict[str, str]:
        """The values that an address or a form takes along: those that the chosen strategy uses."""
        return {name: self[name] for name in FIELDS if self[name] and self.uses(name)}

    def uses(self, name: str) -> bool:
        """Whether the chosen strategy makes anything of a field."""
        if name in TRIAL_FIELDS:
            return self.is_ab
        if name == "keep_warm":
            return self.keeps_warm
        return name != "approval" or self["strategy"] != Strategy.SHADOW

    def rest(self, shown: Iterable[str]) -> list[tuple[str, str]]:
        """What the fields of a step do not carry themselves, for hidden inputs."""
        kept = set(shown)
        return [(name, value) for name, value in self.carried.items() if name not in kept]

    def guardrails(self) -> tuple[GateSpec, ...]:
        """The guardrails that are on. Faulty numbers become faults and their guardrail is left out."""
        found: list[GateSpec] = []
        if self["errors"]:
            limit = self._number("error_limit", 0.01, 50)
            if limit is not None:
                found.append(GateSpec("error rate", Metric.ERROR_RATE, limit / 100))
        if self["slow"]:
            milliseconds, limit = self._number("slow_ms", 1, 600_000), self._number("slow_limit", 0.01, 50)
            if milliseconds is not None and limit is not None:
                found.append(GateSpec(f"over {milliseconds:g} ms", Metric.SLOW_SHARE, limit / 100, milliseconds / 1000))
        if self["available"]:
            limit = self._number("available_limit", 50, 99.99)
            if limit is not None:
                found.append(GateSpec("availability", Metric.AVAILABILITY, limit / 100))
        return tuple(found)

    def check_words(self) -> None:
        """Faults of what is chosen from a list."""
        if self["strategy"] not in [strategy.value for strategy in Strategy]:
            self.faults["strategy"] = "Choose a strategy from the list."
        if self["on_busy"] not in SUPERSEDE:
            said = "is not one of the ways; choose what happens when another rollout is moving this endpoint."
            self.faults["on_busy"] = f"{self['on_busy']!r} {said}"
            self.values["on_busy"] = DEFAULTS["on_busy"]  # so that the plan can be shown beside the fault
        if self["approval"] not in {"", *APPROVALS}:
            self.faults["approval"] = "Choose from the list how many people must approve."
        if self["profile"] not in PROFILES:
            self.faults["profile"] = "Choose a profile from the list."

    def _number(self, name: str, low: float, high: float) -> float | None:
        try:
            value = number_typed(self[name])
        except ValueError:
            self.faults[name] = f"{self[name] or 'Nothing'} is not a number; write one from {low:g} to {high:g}."
            return None
        if not low <= value <= high:
            self.faults[name] = f"{self[name]} is outside {low:g} to {high:g}."
            return None
        return value

    def first_faulty_step(self) -> str:
        """The earliest step that holds a fault, empty when there is none."""
        faulty = {STEP_OF.get(name, "plan") for name in self.faults}
        return next((step for step, _ in STEPS if step in faulty), "")
