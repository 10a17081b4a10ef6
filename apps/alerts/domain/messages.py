"""What a channel is told about an alert, as text and as data. Pure.

The text holds what is broken, since when, the numbers, a link and the runbook: names, counts and shares, never
inputs of a model, never a secret.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final

from apps.alerts.domain.incidents import FLAPS_FROM, ChangeKind, Severity

TOLD: Final = frozenset(
    {ChangeKind.OPENED, ChangeKind.REOPENED, ChangeKind.WORSENED, ChangeKind.REMINDED, ChangeKind.ACKNOWLEDGED,
     ChangeKind.RESOLVED}
)  # fmt: skip
TEST: Final = "test"
EXHAUSTION: Final = "seconds_to_exhaustion"
_HEAD: Final = {
    ChangeKind.OPENED: "", ChangeKind.REOPENED: "back: ", ChangeKind.WORSENED: "worse: ",
    ChangeKind.REMINDED: "still: ", ChangeKind.ACKNOWLEDGED: "acknowledged: ", ChangeKind.RESOLVED: "resolved: ",
}  # fmt: skip
_MOST_FACTS: Final = 12
_SHARES: Final = frozenset({"budget_remaining"})
_BUDGET: Final = ("The budget is gone", "The budget is overspent")
_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


@dataclass(frozen=True, slots=True)
class Message:
    """One message. ``dedup_key`` is the incident's id, the same from the first to the last message about it."""

    id: str
    kind: str
    severity: str
    dedup_key: str
    subject: str
    body: str
    link: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Told:
    """An incident as its messages need it; times are UTC, ``link`` and ``runbook_url`` are whole addresses."""

    id: str
    title: str
    summary: str
    severity: str
    state: str
    source: str
    team: str
    environment: str
    subject_type: str
    subject_name: str
    opened_at: datetime
    firing_since: datetime
    reopened: int
    facts: Mapping[str, Any]
    states: Sequence[Mapping[str, Any]]
    page: str
    link: str
    runbook_url: str
    by: str = ""
    reason: str = ""


def subject_of(kind: str, told: Told) -> str:
    """One line: ``[PAGE] worse: fraud: availability burns its budget (production)``."""
    where = f" ({told.environment})" if told.environment else ""
    mark = "PAGE" if told.severity == Severity.PAGE else "ticket"
    return one_line(f"[{mark}] {_HEAD[ChangeKind(kind)]}{told.title}{where}")[:300]


def body_of(kind: str, told: Told, moment: datetime) -> str:
    """Lines of plain text, the most urgent first."""
    head = [
        _first(kind, told),
        time_left(told.facts, told.summary) if kind != ChangeKind.RESOLVED else "",
        told.summary,
    ]
    head += [f"- {state['sentence']}" for state in told.states if state.get("is_firing")]
    rest = [f"What: {told.subject_type} {told.subject_name}, team {told.team}"]
    rest += [f"Since: {told.opened_at:%Y-%m-%d %H:%M} UTC ({span((moment - told.opened_at).total_seconds())})"]
    rest += numbers(told.facts)
    rest += [f"Open: {told.page}", f"Look: {told.link}" if told.link else ""]
    rest += [f"Runbook: {told.runbook_url}" if told.runbook_url else ""]
    return "\n".join([*filter(None, head), "", *filter(None, rest)]).strip()


def data_of(kind: str, told: Told, moment: datetime) -> dict[str, Any]:
    """The same for programs (plain webhooks), in the envelope of the product's other webhooks."""
    found = {name: stamp(value) if isinstance(value, datetime) else value for name, value in asdict(told).items()}
    found["facts"], found["states"] = dict(told.facts), [dict(state) for state in told.states]
    return {"type": f"alert.{kind}", "timestamp": stamp(moment), "data": {"object": "alert", **found}}


def time_left(facts: Mapping[str, Any], summary: str) -> str:
    """The sentence that comes before every factor, "" where nothing runs out, or where the summary, which stands right
    after it, begins with that."""
    left = facts.get(EXHAUSTION)
    if not isinstance(left, int | float) or isinstance(left, bool) or summary.startswith(_BUDGET):
        return ""
    return f"The error budget is gone in {span(left)}." if left > 0 else "The error budget is gone."


def numbers(facts: Mapping[str, Any]) -> list[str]:
    """Facts that are numbers or short texts, in the order of their source."""
    plain = [(name, value) for name, value in facts.items() if name != EXHAUSTION and _is_plain(value)]
    return [one_line(f"{name.replace('_', ' ')}: {_number(name, value)}") for name, value in plain[:_MOST_FACTS]]


def span(seconds: float) -> str:
    """The two largest units: ``2 d 3 h``, ``3 h 10 min``, ``45 s``."""
    left, parts = max(0, int(seconds)), []
    for size, unit in _UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
        if len(parts) == 2 or (parts and not count):
            break
    return " ".join(parts) or "0 s"


def one_line(text: str) -> str:
    """Without line breaks and control characters: headers and subjects must not grow lines."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def stamp(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def _first(kind: str, told: Told) -> str:
    who = told.by or "Pilothouse"
    match ChangeKind(kind):
        case ChangeKind.ACKNOWLEDGED:
            return f"{who} is looking after it{': ' + told.reason if told.reason else '.'}"
        case ChangeKind.RESOLVED:
            return f"Closed by {told.by}{': ' + told.reason if told.reason else '.'}" if told.by else "It is over."
        case ChangeKind.REMINDED:
            return "Nobody has acknowledged it yet."
        case ChangeKind.WORSENED:
            return "It got worse."
        case ChangeKind.REOPENED if told.reopened >= FLAPS_FROM:
            return f"It has come back {told.reopened} times. Its end is told once it has stayed quiet for a while."
        case ChangeKind.REOPENED:
            return "It is back."
        case _:
            return ""


def _is_plain(value: Any) -> bool:
    return isinstance(value, int | float) or (isinstance(value, str) and 0 < len(value) <= 200)


def _number(name: str, value: Any) -> str:
    """Four digits at least of a fraction, never a power of ten; shares as a percentage."""
    if name in _SHARES and isinstance(value, int | float):
        return (f"{value:.1%}" if abs(value) < 1 else f"{value:,.0%}").replace("%", " %")
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if type(value) is int else str(value)
