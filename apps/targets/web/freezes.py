"""Freeze windows: the list, setting one, and lifting one early."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from apps.accounts.web_access import actor_of_request, declares
from apps.kernel.actor import ANY, Actor
from apps.kernel.clock import now
from apps.kernel.errors import DomainError, InvalidInput
from apps.targets.models import Environment, FreezeWindow
from apps.targets.selectors import endpoint_list, freeze_list
from apps.targets.services.freeze import freeze_check_ahead, freeze_create, freeze_remove
from apps.targets.services.scope import why_not_at, why_not_shared

FIELDS = ("scope", "starts_at", "ends_at", "reason")
PAST_SHOWN = 10
REASON_LENGTH = 300


@declares({"GET": "endpoint.read", "POST": "freeze.write"})
def freezes(request: HttpRequest) -> HttpResponse:
    """GET lists, POST sets one; what was typed stays when it is refused (422)."""
    if request.method != "POST":
        return _page(request, {"scope": "everything"}, {})
    typed = {name: request.POST.get(name, "").strip() for name in FIELDS}
    try:
        window = _create(request, typed)
    except DomainError as error:
        names = {"environment": "scope", "endpoint": "scope"}
        faults = {names.get(key, key): item.detail for item in error.fields if (key := item.pointer.strip("/"))}
        return _page(request, typed, faults or {"scope": error.detail}, status=422)
    messages.success(request, f"Frozen: {scope_of(window)}, until {window.ends_at:%Y-%m-%d %H:%M} UTC.")
    return redirect("settings:freezes")


@declares({"POST": "freeze.write"})
def lift(request: HttpRequest, freeze_id: str) -> HttpResponse:
    """Lift a window; the reason stays in the audit trail. Raises InvalidInput, NotFound."""
    reason = request.POST.get("reason", "").strip()[:REASON_LENGTH]
    if not reason:
        raise InvalidInput.at("/reason", "required", "Say why it can be lifted; the reason stays in the audit trail.")
    freeze_remove(actor=actor_of_request(request), freeze_id=freeze_id, reason=reason)
    messages.success(request, "Lifted: rollouts there may move forward again.")
    return redirect("settings:freezes")


def scope_of(window: FreezeWindow) -> str:
    """What a window holds for, in words."""
    if window.endpoint is not None:
        return f"endpoint {window.endpoint.name}"
    return f"every endpoint of {window.environment}" if window.environment else "everything"


def _create(request: HttpRequest, typed: dict[str, str]) -> FreezeWindow:
    kind, _, name = typed["scope"].partition(":")
    if kind not in {"everything", "environment", "endpoint"} or bool(name) == (kind == "everything"):
        raise InvalidInput.at("/scope", "unknown", "Choose what is frozen from the list.")
    if len(typed["reason"]) > REASON_LENGTH:
        raise InvalidInput.at("/reason", "too_long", f"Say it in at most {REASON_LENGTH} characters.")
    starts_at, ends_at = _time(typed, "starts_at") or now(), _time(typed, "ends_at") or _missing_end()
    freeze_check_ahead(starts_at, ends_at)
    return freeze_create(
        actor=actor_of_request(request),
        starts_at=starts_at,
        ends_at=ends_at,
        reason=typed["reason"],
        environment=name if kind == "environment" else "",
        endpoint_id=name if kind == "endpoint" else None,
    )


def _time(typed: dict[str, str], name: str) -> datetime | None:
    """What a ``datetime-local`` field sends, read as UTC; None when it was left empty."""
    text = typed[name]
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput.at(
            f"/{name}", "not_a_time", f"{text!r} is no time; write it like 2026-12-24T18:00, in UTC."
        ) from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _missing_end() -> datetime:
    raise InvalidInput.at("/ends_at", "required", "Say when it ends; it can be lifted earlier.")


def _page(request: HttpRequest, typed: dict[str, str], faults: dict[str, str], status: int = 200) -> HttpResponse:
    moment, actor = now(), actor_of_request(request)
    whys = {place: _why_not(actor, place) for place in ("everything", *Environment)}
    endpoints = [(item.name, why_not_at(actor, "freeze.write", item)) for item in endpoint_list(actor)]
    past = freeze_list(actor).filter(ends_at__lte=moment).order_by("-ends_at")[:PAST_SHOWN]
    context = {
        "tab": "freezes",
        "rows": [_row(actor, item, moment) for item in freeze_list(actor, at=moment)],
        "past": [_row(actor, item, moment) for item in past],
        "typed": typed,
        "faults": faults,
        "everything_why_not": whys["everything"],
        "environments": [(name.value, whys[name]) for name in Environment],
        "endpoints": endpoints,
        "why_not": whys["everything"] if all([*whys.values(), *(why for _, why in endpoints)]) else "",
    }
    return render(request, "targets/settings_freezes.html", context, status=status)


def _why_not(actor: Actor, place: str) -> str:
    return why_not_shared(actor, "freeze.write", ANY if place == "everything" else place)


def _row(actor: Actor, window: FreezeWindow, at: datetime) -> dict[str, Any]:
    is_open = window.starts_at <= at
    level, word = ("attention", "frozen now") if is_open else ("progressing", "coming")
    wide = window.environment or "everything"
    why_not = _why_not(actor, wide) if window.endpoint is None else why_not_at(actor, "freeze.write", window.endpoint)
    return {"why_not": why_not, "window": window, "scope": scope_of(window), "level": level, "word": word}
