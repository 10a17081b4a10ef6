"""Events in words, for people who choose among them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from apps.alerts.domain.events import EVENTS, TEST

FAMILY_WORDS: Final = {
    "rollout": ("Rollouts", "every phase that a rollout comes to"),
    "review": ("Reviews", "asked, decided, closed"),
    "version": ("Versions", "registered, and what the check of their files found"),
    "alias": ("Aliases", "which version a name such as champion means"),
    "alert": ("Alerts", "one for each fault; channels under Alerting tell people"),
    "endpoint": ("Endpoints", "whether callers are served as wished"),
}
EVENT_WORDS: Final = {
    "rollout.pending": "was started",
    "rollout.preparing": "prepares the candidate",
    "rollout.shifting": "moves traffic",
    "rollout.baking": "watches a step",
    "rollout.waiting": "waits for a person",
    "rollout.gating": "looks at its gates",
    "rollout.paused": "was paused",
    "rollout.promoting": "makes the candidate the stable version",
    "rollout.rolling_back": "goes back",
    "rollout.promoted": "has promoted the candidate",
    "rollout.rolled_back": "went back to the stable version",
    "rollout.aborted": "was aborted",
    "rollout.failed": "failed",
    "rollout.superseded": "gave way to a newer one",
    "rollout.completed": "ended without promoting (shadow, A/B)",
    "review.opened": "asks for a decision",
    "review.decided": "got one decision",
    "review.approved": "was approved",
    "review.rejected": "was rejected",
    "review.withdrawn": "was taken back by whoever asked",
    "review.voided": "lost its ground: the plan changed",
    "review.expired": "ran out of time",
    "version.registered": "was registered",
    "version.verified": "passed its check and can be rolled out",
    "version.failed": "did not pass its check",
    "alias.moved": "points at another version",
    "alias.removed": "points at nothing any more",
    "alert.opened": "began",
    "alert.reopened": "came back",
    "alert.worsened": "got worse",
    "alert.acknowledged": "was acknowledged",
    "alert.resolved": "is over",
    "endpoint.degraded": "does not serve as wished",
    "endpoint.recovered": "serves as wished again",
}


@dataclass(frozen=True, slots=True)
class Family:
    """Events about one kind of thing; ``every`` is what asks for all of them, those that come later too."""

    every: str
    word: str
    about: str
    events: tuple[tuple[str, str], ...]


def families() -> list[Family]:
    """What can be chosen, in the order of the table of events."""
    return [
        Family(f"{kind}.*", word, about, tuple((name, EVENT_WORDS[name]) for name in EVENTS if _kind(name) == kind))
        for kind, (word, about) in FAMILY_WORDS.items()
    ]


def sentence_of(name: str) -> str:
    """One event: ``rollout was paused``; an unknown one as it is called."""
    if name == TEST:
        return "test message"
    return f"{_kind(name)} {EVENT_WORDS[name]}" if name in EVENT_WORDS else name


def summary_of(asked: Iterable[str]) -> str:
    """What a subscription asks for, in a line: ``all about rollouts, 2 of 7 about reviews``."""
    chosen, parts = set(asked), []
    for family in families():
        count = sum(name in chosen for name, _ in family.events)
        if family.every in chosen:
            parts.append(f"all about {family.word.lower()}")
        elif count:
            parts.append(f"{count} of {len(family.events)} about {family.word.lower()}")
    return ", ".join(parts) or "nothing"


def _kind(name: str) -> str:
    return name.partition(".")[0]
