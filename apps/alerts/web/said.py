"""How an alert is said on a page: level, sentences, buttons with what follows from them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from django.urls import NoReverseMatch, reverse

from apps.accounts.services.access import access_allows, access_refusal
from apps.alerts.domain.incidents import ChangeKind, IncidentState, Severity
from apps.alerts.domain.messages import EXHAUSTION, numbers, time_left
from apps.alerts.domain.states import DeliveryState
from apps.alerts.domain.watches import Seen
from apps.alerts.models import Incident, IncidentChange, Notice
from apps.alerts.selectors import watches_stalled
from apps.alerts.services.sending import GIVE_UP_AFTER
from apps.kernel.actor import ANY, Actor
from apps.kernel.buttons import Button
from apps.kernel.clock import now
from apps.kernel.looks import LOOKS

CHANGES: Final = {
    ChangeKind.OPENED: "began", ChangeKind.REOPENED: "came back", ChangeKind.WORSENED: "got worse",
    ChangeKind.EASED: "eased", ChangeKind.STATES: "other conditions fire", ChangeKind.REMINDED: "reminded",
    ChangeKind.ACKNOWLEDGED: "acknowledged", ChangeKind.SILENCED: "silenced", ChangeKind.UNSILENCED: "silence lifted",
    ChangeKind.RESOLVED: "resolved",
}  # fmt: skip
_SILENCE: Final = "Nobody is told before the time is over, unless it gets worse or ends."
_RESOLVE: Final = "It is closed. What still fires in 15 minutes opens it again; what is worse, at once."
_NOTICES: Final = {
    DeliveryState.WAITING: ("progressing", "waiting"),
    DeliveryState.DELIVERED: ("ok", "delivered"),
    DeliveryState.GIVEN_UP: ("bad", "given up"),
}


def row_of(row: Incident) -> dict[str, Any]:
    """What lists and heads show of an incident."""
    return {
        "incident": row,
        "level": level_of(row),
        "word": word_of(row),
        "time_left": time_left(row.facts, row.summary) if row.state != IncidentState.RESOLVED else "",
        "numbers": numbers({name: value for name, value in row.facts.items() if name != EXHAUSTION}),
        "firing": [state for state in row.states if state.get("is_firing")],
        "is_silent": is_silent(row),
        "silent_until": time_said(row.silenced_until),
        "first": time_said(row.opened_at),
        "subject_url": _subject_url(row),
        "is_link_ours": row.link.startswith("/"),
    }


def stalled_now() -> list[Seen]:
    """Who has not looked for too long: while it is anybody, what pages say of alerts and budgets is the past. One look
    for everybody who asks at once."""
    return LOOKS.get(("watches",), watches_stalled)


def time_said(at: datetime | None) -> str:
    """``14:20`` of today, with its date of any other day, UTC: a silence may end in a week."""
    if at is None:
        return ""
    return f"{at:%H:%M}" if at.date() == now().date() else f"{at:%Y-%m-%d %H:%M}"


def is_silent(row: Incident) -> bool:
    """Whether messages about it are held back now."""
    return row.silenced_until is not None and row.silenced_until > now() and row.state != IncidentState.RESOLVED


def level_of(row: Incident) -> str:
    if row.state == IncidentState.RESOLVED:
        return "ok"
    if row.state == IncidentState.ACKNOWLEDGED:
        return "progressing"
    return "bad" if row.severity == Severity.PAGE else "attention"


def word_of(row: Incident) -> str:
    """``page, firing``; a resolved one has no severity any more."""
    if row.state == IncidentState.RESOLVED:
        return "resolved"
    return f"{row.severity}, {row.state}"


def change_row(change: IncidentChange) -> dict[str, Any]:
    """One line of the history: what, by whom, who was told."""
    return {
        "change": change,
        "word": CHANGES[ChangeKind(change.kind)],
        "told": ", ".join(change.detail.get("told", [])),
        "remark": change.detail.get("remark", ""),
    }


def notice_row(notice: Notice) -> dict[str, Any]:
    """One message: to whom, what came of it."""
    is_tried = notice.state == DeliveryState.WAITING and notice.attempts > 0
    return {
        "notice": notice,
        "level": ("attention", "will be repeated") if is_tried else _NOTICES[DeliveryState(notice.state)],
        "word": CHANGES.get(notice.kind, notice.kind),  # type: ignore[call-overload]
        "is_waiting": notice.state == DeliveryState.WAITING,
        "end": _end_of(notice),
    }


def _end_of(notice: Notice) -> str:
    """Of one that was given up, why nobody tries it any more; the error itself stands before it."""
    if notice.state != DeliveryState.GIVEN_UP:
        return ""
    after = "the first attempt" if notice.attempts <= 1 else f"{notice.attempts} attempts"
    settled = notice.settled_at
    if settled is None or settled - notice.tried_since >= GIVE_UP_AFTER:
        return f"Given up after {GIVE_UP_AFTER.total_seconds() / 3600:g} hours and {after}."
    return f"Given up after {after}: repeating it could not help. Mend the channel first, then send it again."


def buttons_of(actor: Actor, row: Incident) -> list[Button]:
    """Acknowledge first: it is what stops the phone."""
    if row.state == IncidentState.RESOLVED:
        return []
    ask = "Reminders end and others see that you are on it. If it gets worse, it pages again."
    found = [
        Button(
            "acknowledge", "Acknowledge", "primary" if row.state == IncidentState.FIRING else "", "", ask,
            "" if row.state == IncidentState.FIRING else f"{row.acknowledged_by} looks after it already.",
        ),
        Button("silence", "Silence", "", "silence", _SILENCE),
        Button("resolve", "Resolve", "", "reason", _RESOLVE),
    ]  # fmt: skip
    place = _place(row)
    return [replace(one, why_not=access_refusal(actor, f"alert.{one.command}", *place) or one.why_not) for one in found]


def is_calling(row: Incident) -> bool:
    """Whether it fires, and nobody has taken it on or silenced it."""
    return row.state == IncidentState.FIRING and not is_silent(row)


def is_waiting_for(actor: Actor, row: Incident) -> bool:
    """Whether it calls for somebody, and ``actor`` may take it on."""
    return is_calling(row) and access_allows(actor, "alert.acknowledge", *_place(row))


def _place(row: Incident) -> tuple[str, str | None]:
    """Where rights over it hold."""
    return row.team_id or ANY, row.environment or None


def _subject_url(row: Incident) -> str:
    """The subject's own page, where it has one."""
    names = {"endpoint": "targets:endpoint", "rollout": "rollouts:detail", "experiment": "experiments:detail"}
    subject = row.subject_name if row.subject_type == "endpoint" else row.subject_id
    if row.subject_type not in names or not subject:
        return ""
    try:
        return reverse(names[row.subject_type], args=[subject])
    except NoReverseMatch:
        return ""
