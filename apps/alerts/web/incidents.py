"""Alerts: the list, the worst first and together by what they are about; one of them; the buttons."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from django.contrib import messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import cache_control
from django.views.decorators.http import conditional_page

from apps.accounts.domain.roles import Environment
from apps.accounts.web_access import actor_of_request, declares
from apps.alerts.domain.incidents import IncidentState, Severity
from apps.alerts.domain.watches import sentences_of
from apps.alerts.models import Incident
from apps.alerts.selectors import (
    READ,
    WORST_FIRST,
    incident_changes,
    incident_get,
    incident_list,
    incident_notices,
    incidents_of,
)
from apps.alerts.services.commands import incident_acknowledge, incident_resolve, incident_silence
from apps.alerts.services.unheard import heard_at, over_at
from apps.alerts.web.said import buttons_of, change_row, is_silent, notice_row, row_of, stalled_now
from apps.kernel.actor import Actor
from apps.kernel.clock import now
from apps.kernel.errors import Conflict, InvalidInput, NotFound

SHOWN: Final = 200
FACETS: Final = (("open", "Open"), ("firing", "Firing"), ("acknowledged", "Acknowledged"), ("resolved", "Resolved"))
FILTERS: Final = {"severity": "severity", "team": "team__slug", "environment": "environment", "source": "source"}
SPANS: Final = ((1800, "30 minutes"), (7200, "2 hours"), (28800, "8 hours"), (86400, "1 day"), (604800, "1 week"))


@declares(READ)
def incidents(request: HttpRequest) -> HttpResponse:
    """What is wrong now; ``?state=``, ``severity``, ``team``, ``environment``, ``source`` choose."""
    found = incident_list(actor_of_request(request))
    asked = _asked(request)
    choices = {
        "severity": [one.value for one in Severity],
        "environment": [one.value for one in Environment],
        "team": _values(found, "team__slug"),
        "source": _values(found, "source"),
    }
    context = {
        "facets": FACETS,
        "state": asked["state"],
        "choices": [(name, values, asked[name]) for name, values in choices.items() if len(values) > 1],
    }
    return render(request, "incidents/list.html", context)


@declares(READ)
@cache_control(private=True, no_cache=True)
@conditional_page
def rows(request: HttpRequest) -> HttpResponse:
    """The part of the list that is kept fresh."""
    asked = _asked(request)
    every = incident_list(actor_of_request(request))
    is_open = ~Q(state=IncidentState.RESOLVED)
    found = every.filter(is_open if asked["state"] == "open" else Q(state=asked["state"]))
    for name, lookup in FILTERS.items():
        found = found.filter(**{lookup: asked[name]}) if asked[name] else found
    order = ("-resolved_at", "id") if asked["state"] == "resolved" else WORST_FIRST
    listed = list(found.order_by(*order)[: SHOWN + 1])
    context = {
        "groups": _grouped(sorted(listed[:SHOWN], key=is_silent)),
        "state": asked["state"],
        "is_filtered": any(asked[name] for name in FILTERS),
        "is_more": len(listed) > SHOWN,
        "shown": SHOWN,
        "stalled": sentences_of(stalled_now()),
        "others": 0 if listed or asked["state"] in {"open", "resolved"} else every.filter(is_open).count(),
    }
    return render(request, "incidents/_rows.html", context)


@declares(READ)
@cache_control(private=True, no_cache=True)
@conditional_page
def of_subject(request: HttpRequest, name: str) -> HttpResponse:
    """The open alerts of one endpoint, for its own page."""
    found = [row_of(row) for row in incidents_of(name, actor_of_request(request))]
    stalled = sentences_of(stalled_now())
    return render(request, "incidents/_of_subject.html", {"rows": found, "stalled": stalled})


@declares(READ)
def incident(request: HttpRequest, incident_id: str) -> HttpResponse:
    """One alert. Raises NotFound."""
    return _page(request, incident_get(actor_of_request(request), incident_id))


@declares(READ)
@cache_control(private=True, no_cache=True)
@conditional_page
def head(request: HttpRequest, incident_id: str) -> HttpResponse:
    """Is it broken, since when, how bad."""
    return render(request, "incidents/_head.html", _head(incident_get(actor_of_request(request), incident_id)))


@declares(READ)
@cache_control(private=True, no_cache=True)
@conditional_page
def history(request: HttpRequest, incident_id: str) -> HttpResponse:
    """What was done, who was told, and what changed about the subject around then."""
    row = incident_get(actor_of_request(request), incident_id)
    context = {
        "incident": row,
        "changes": [change_row(one) for one in reversed(incident_changes(row))],
        "notices": [notice_row(one) for one in incident_notices(row)],
    }
    return render(request, "incidents/_history.html", context)


@declares(READ)
@cache_control(private=True, no_cache=True)
@conditional_page
def actions(request: HttpRequest, incident_id: str) -> HttpResponse:
    """The buttons that its state allows, the others with the reason."""
    actor = actor_of_request(request)
    row = incident_get(actor, incident_id)
    return render(request, "incidents/_actions.html", _actions(actor, row))


@declares({"GET": READ, "POST": READ})
def command(request: HttpRequest, incident_id: str, command: str) -> HttpResponse:
    """Acknowledge, silence, resolve; each checks its own right. What is refused is said on the page. Back to where the
    person was: the fleet's list has the first of them as well."""
    actor = actor_of_request(request)
    if request.method != "POST":  # the address of one that was refused, sent to a colleague
        return redirect("incidents:incident", incident_get(actor, incident_id).pk)
    if command not in COMMANDS:
        raise NotFound("command_unknown", f"There is no command {command[:40]!r}.")
    try:
        said = COMMANDS[command](request, actor, incident_id)
    except (Conflict, InvalidInput) as error:
        status = 422 if isinstance(error, InvalidInput) else 409
        return _page(request, incident_get(actor, incident_id), refused=error.detail, status=status)
    messages.success(request, said)
    if request.POST.get("back") == "fleet":
        return redirect("fleet")
    return redirect("incidents:incident", incident_id)


def _page(request: HttpRequest, row: Incident, refused: str = "", status: int = 200) -> HttpResponse:
    has_events = row.subject_type == "endpoint" and bool(row_of(row)["subject_url"])
    context = {"incident": row, "refused": refused, "has_events": has_events}
    return render(request, "incidents/incident.html", context, status=status)


def _head(row: Incident) -> dict[str, Any]:
    return {
        "incident": row, "row": row_of(row), "states": row.states, "moment": now(),
        "over_at": over_at(row), "heard_at": heard_at(row),
    }  # fmt: skip


def _actions(actor: Actor, row: Incident) -> dict[str, Any]:
    buttons = buttons_of(actor, row)
    reasons = sorted({button.why_not for button in buttons if button.why_not})
    return {"incident": row, "row": row_of(row), "buttons": buttons, "reasons": reasons, "spans": SPANS}


def _acknowledge(request: HttpRequest, actor: Actor, incident_id: str) -> str:
    row = incident_acknowledge(
        actor=actor, incident_id=incident_id, expected_revision=_revision(request), reason=_text(request, "reason")
    )
    return f"You look after it now: {row.title}. Reminders end, unless it gets worse."


def _silence(request: HttpRequest, actor: Actor, incident_id: str) -> str:
    span = _text(request, "seconds")
    if not span.isdigit() or len(span) > 8:
        raise InvalidInput.at("/seconds", "required", "Say for how long.")
    row = incident_silence(
        actor=actor, incident_id=incident_id, until=now() + timedelta(seconds=int(span)),
        reason=_text(request, "reason"), expected_revision=_revision(request),
    )  # fmt: skip
    until = row.silenced_until
    return f"Silent until {until:%Y-%m-%d %H:%M} UTC, unless it gets worse." if until else "The silence is lifted."


def _resolve(request: HttpRequest, actor: Actor, incident_id: str) -> str:
    incident_resolve(
        actor=actor, incident_id=incident_id, reason=_text(request, "reason"), expected_revision=_revision(request)
    )
    return "Closed. If it still fires in a while, it opens again."


COMMANDS: Final = {"acknowledge": _acknowledge, "silence": _silence, "resolve": _resolve}


def _revision(request: HttpRequest) -> int:
    text = _text(request, "expected_revision")
    if not text.isdigit() or len(text) > 10:
        raise InvalidInput.at("/expected_revision", "required", "Load the page again and press once more.")
    return int(text)


def _text(request: HttpRequest, name: str) -> str:
    return request.POST.get(name, "").strip()


def _asked(request: HttpRequest) -> dict[str, str]:
    """What the address asks for; what it cannot mean is left out."""
    found = {name: request.GET.get(name, "")[:200].replace("\0", "") for name in ("state", *FILTERS)}
    found["state"] = found["state"] if found["state"] in dict(FACETS) else "open"
    return found


def _values(found: QuerySet[Incident], field: str) -> list[str]:
    return [value for value in found.order_by(field).values_list(field, flat=True).distinct() if value]


def _grouped(found: list[Incident]) -> list[dict[str, Any]]:
    """By what they are about, in the order of the worst of each."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in found:
        groups.setdefault((row.subject_type, row.subject_name), []).append(row_of(row))
    return [{"kind": kind, "name": name, "rows": rows} for (kind, name), rows in groups.items()]
