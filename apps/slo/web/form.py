"""Making and changing an objective, with what it would have done in the last days beside the form."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from apps.accounts.web_access import actor_of_request, declares
from apps.kernel.actor import Actor
from apps.kernel.errors import Conflict, InvalidInput, Unavailable
from apps.slo.domain.objective import Kind, ObjectiveSpec
from apps.slo.models import Objective
from apps.slo.selectors import objective_get, spec_of
from apps.slo.services.objectives import objective_create, objective_update
from apps.slo.services.replays import MAX_DAYS, objective_replay
from apps.slo.web.said import replay_rows
from apps.slo.web.typed import KINDS, PROFILES_SHOWN, SCOPES, Typed, policy_rows
from apps.targets.services.scope import endpoint_require, why_not_at

FRESH = ObjectiveSpec("", Kind.AVAILABILITY, 995_000, limit_ms=500)


@declares({"GET": "objective.read", "POST": "objective.write"})
def new(request: HttpRequest, name: str) -> HttpResponse:
    """GET shows the form; POST keeps the objective. Raises NotFound."""
    actor = actor_of_request(request)
    endpoint = endpoint_require(actor, "objective.read", name)
    if request.method != "POST":
        return _page(request, endpoint, Typed.of(FRESH))
    typed = Typed.read(request.POST)
    try:
        made = objective_create(
            actor=actor, endpoint_id=endpoint.pk, is_enabled=bool(typed["is_enabled"]), **typed.given()
        )
    except (InvalidInput, Conflict) as error:
        typed.place(error)
        return _page(request, endpoint, typed, status=409 if isinstance(error, Conflict) else 422)
    messages.success(request, f"{made.name} is promised from now on.")
    return redirect("slo:objectives", endpoint.name)


@declares({"GET": "objective.read", "POST": "objective.write"})
def edit(request: HttpRequest, objective_id: str) -> HttpResponse:
    """The same form over an objective. Raises NotFound."""
    actor = actor_of_request(request)
    found = objective_get(objective_id, actor)
    if request.method != "POST":
        return _page(request, found.endpoint, Typed.of(spec_of(found), is_enabled=found.is_enabled), found)
    typed = Typed.read(request.POST)
    revision = request.POST.get("expected_revision", "")
    try:
        objective_update(
            actor=actor,
            objective_id=found.pk,
            expected_revision=int(revision) if revision.isdecimal() else -1,
            is_enabled=bool(typed["is_enabled"]),
            **typed.given(),
        )
    except (InvalidInput, Conflict) as error:
        typed.place(error)
        return _page(request, found.endpoint, typed, found, status=409 if isinstance(error, Conflict) else 422)
    messages.success(request, f"{typed['name']} is changed.")
    return redirect("slo:objectives", found.endpoint.name)


@declares({"POST": "objective.read"})
def replayed(request: HttpRequest, name: str) -> HttpResponse:
    """What is typed now, over the last days; nothing is stored. Faults stand in it as sentences, with status 200: it is
    a fragment beside a form that is not finished yet."""
    actor = actor_of_request(request)
    endpoint = endpoint_require(actor, "objective.read", name)
    return render(request, "slo/_replay.html", _replay(actor, endpoint, Typed.read(request.POST)))


def _replay(actor: Actor, endpoint: Any, typed: Typed) -> dict[str, Any]:
    probe = Typed(typed.values)
    probe.values["name"] = probe["name"] or "new"
    days = int(probe["days"]) if probe["days"].isdecimal() and 1 <= int(probe["days"]) <= MAX_DAYS else MAX_DAYS
    try:
        spec, found = objective_replay(actor=actor, endpoint_id=endpoint.pk, given=probe.given(), days=days)
    except InvalidInput as error:
        return {"missing": [probe.said(fault)[1] for fault in error.fields] or [error.detail]}
    except Unavailable as error:
        return {"missing": [error.detail]}
    rows = [] if spec.kind is Kind.PERCENTILE else policy_rows(spec.policy, spec.period_days)
    return {"spec": spec, "replay": replay_rows(found), "policy": rows}


def _page(
    request: HttpRequest, endpoint: Any, typed: Typed, found: Objective | None = None, status: int = 200
) -> HttpResponse:
    actor = actor_of_request(request)
    context = {
        "endpoint": endpoint,
        "objective": found,
        "typed": typed.values,
        "faults": typed.faults,
        "kinds": KINDS,
        "scopes": SCOPES,
        "profiles": PROFILES_SHOWN,
        "who_not": why_not_at(actor, "objective.write", endpoint),
        **_replay(actor, endpoint, typed),
    }
    return render(request, "slo/form.html", context, status=status)
