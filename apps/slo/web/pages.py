"""The objectives of an endpoint and how they stand, the fragment for other pages, and the Prometheus rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.views.decorators.cache import cache_control
from django.views.decorators.http import conditional_page

from apps.accounts.services.access import access_require
from apps.accounts.web_access import actor_of_request, declares
from apps.alerts.domain.watches import OBJECTIVES, stalled_since
from apps.kernel.clock import now
from apps.kernel.errors import Conflict
from apps.kernel.looks import LOOKS
from apps.kernel.rendered import SHARED, step_of_now
from apps.slo.domain.prometheus import Histograms
from apps.slo.selectors import budget_least, burns_marks, burns_of, objective_get
from apps.slo.services.objectives import objective_delete
from apps.slo.services.rules import rules_export
from apps.slo.web.said import burn_row
from apps.targets.services.scope import endpoint_require, why_not_at
from apps.targets.services.seen import endpoint_of

if TYPE_CHECKING:
    from apps.targets.models import Endpoint


HISTOGRAMS = ((Histograms.CLASSIC.value, "Classic buckets"), (Histograms.NATIVE.value, "Native histograms"))


@declares("objective.read")
def objectives(request: HttpRequest, name: str) -> HttpResponse:
    """What the endpoint promises, worst first. Raises NotFound."""
    actor = actor_of_request(request)
    endpoint = endpoint_require(actor, "objective.read", name)
    context = {"endpoint": endpoint, "who_not": why_not_at(actor, "objective.write", endpoint)}
    return render(request, "slo/objectives.html", context)


@declares("objective.read")
@cache_control(private=True, no_cache=True)
@conditional_page
def burns(request: HttpRequest, name: str) -> HttpResponse:
    """The states alone, for this page and for others: the same for everybody."""
    endpoint = endpoint_of(request, name)
    access_require(actor_of_request(request), "objective.read", endpoint.team_id, endpoint.target.environment)
    marks, judged_at = LOOKS.get(("burns", endpoint.pk), lambda: burns_marks(endpoint.pk))
    stalled = stalled_since(OBJECTIVES, judged_at, now())
    revision = marks, stalled, step_of_now()
    return HttpResponse(SHARED.get(("burns", endpoint.pk), revision, lambda: _burns(endpoint, stalled)))


def _burns(endpoint: Endpoint, stalled: str) -> str:
    """``stalled``: why what stands there is the past, "" while somebody judges it."""
    found = burns_of(endpoint.name)
    least = budget_least(found)
    context = {
        "endpoint": endpoint,
        "rows": [burn_row(burn, is_past=bool(stalled)) for burn in found],
        "least": burn_row(least) if least is not None and len(found) > 1 else None,
        "stalled": stalled,
    }
    return render_to_string("slo/_burns.html", context)


@declares("objective.read")
def rules(request: HttpRequest, name: str) -> HttpResponse:
    """The same promises as Prometheus rules. Raises NotFound."""
    chosen = request.GET.get("histograms", "")
    chosen = chosen if chosen in list(Histograms) else Histograms.CLASSIC.value
    actor = actor_of_request(request)
    endpoint = endpoint_require(actor, "objective.read", name)
    context: dict[str, Any] = {
        "endpoint": endpoint,
        "file": rules_export(actor=actor, endpoint_id=endpoint.pk, histograms=chosen),
        "chosen": chosen,
        "ways": HISTOGRAMS,
    }
    return render(request, "slo/rules.html", context)


@declares({"POST": "objective.write"})
def delete(request: HttpRequest, objective_id: str) -> HttpResponse:
    """Promise it no longer. Raises NotFound, Forbidden."""
    actor = actor_of_request(request)
    found = objective_get(objective_id, actor)
    revision = request.POST.get("expected_revision", "")
    try:
        objective_delete(
            actor=actor, objective_id=found.pk, expected_revision=int(revision) if revision.isdecimal() else -1
        )
    except Conflict as error:
        messages.error(request, f"Not deleted. {error.detail}")
        return redirect("slo:edit", found.pk)
    messages.success(request, f"{found.name} is promised no longer; an alert about it is closed.")
    return redirect("slo:objectives", found.endpoint.name)
