"""Fragments that other rooms ask for by URL: an endpoint's traffic, charts and events; where a model is live."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.views.decorators.cache import cache_control
from django.views.decorators.http import conditional_page

from apps.accounts.web_access import actor_of_request, declares
from apps.kernel.clock import now
from apps.kernel.errors import NotFound
from apps.kernel.looks import LOOKS, once
from apps.kernel.rendered import SHARED, step_of_now
from apps.registry.selectors import version_by
from apps.rollouts.selectors import active_of, rollout_list
from apps.rollouts.web.figures import charts_of
from apps.rollouts.web.measures import in_story, measure
from apps.rollouts.web.offers import offers_of
from apps.rollouts.web.reads import latest_transitions
from apps.rollouts.web.story import comparison
from apps.targets.domain.ranges import RANGES
from apps.targets.selectors import endpoint_list, observed_of, plan_of
from apps.targets.services.seen import endpoint_of
from apps.targets.services.story import endpoint_divergences
from apps.telemetry.selectors import newest_arrival

if TYPE_CHECKING:
    from apps.targets.models import Endpoint

EVENTS = 12
DRAWN = 20
SLOT_SECONDS = 10
FINE_STEP = 30
"""Charts with points of at most so many seconds show every report as it comes."""
ROLLOUT_MARKS = ("pk", "revision", "phase", "weight_bp", "reason", "look_failed_at", "look_error")


@declares("endpoint.read")
@cache_control(private=True, no_cache=True)
@conditional_page
def endpoint_traffic(request: HttpRequest, name: str) -> HttpResponse:
    """Wanted and measured split, p95 and errors per variant, and the active rollout: the same for everybody."""
    endpoint = endpoint_of(request, name)
    revision = _marks(request, endpoint), step_of_now(SLOT_SECONDS)
    return HttpResponse(SHARED.get(("traffic", endpoint.pk), revision, lambda: _traffic(endpoint)))


def _traffic(endpoint: Endpoint) -> str:
    plan = plan_of(endpoint)
    active = active_of(endpoint.pk)  # read after the marks: what is kept under them must not be older than they
    measured = in_story(measure(plan), active) if plan else None
    stable = next((part for part in measured.parts if part.role == "stable"), None) if measured else None
    others = [part for part in measured.parts if part.role != "stable"] if measured else []
    context = {
        "endpoint": endpoint,
        "measured": measured,
        "changed_at": _changed_at(endpoint),
        "stable": stable,
        "sentences": [
            f"{part.version}: {comparison(part.p95, stable.p95, stable.version)}"
            for part in others
            if stable and part.p95
        ],
        "active": active,
    }
    return render_to_string("rollouts/_endpoint_traffic.html", context)


@declares("endpoint.read")
@cache_control(private=True, no_cache=True)
@conditional_page
def endpoint_charts(request: HttpRequest, name: str, span: str) -> HttpResponse:
    """Latency, errors and split under one time axis. Raises NotFound for a range that is not offered."""
    if span not in RANGES:
        raise NotFound("range_unknown", f"There is no range {span!r}; choose one of {', '.join(RANGES)}.")
    endpoint = endpoint_of(request, name)
    marks = _marks(request, endpoint)
    step = RANGES[span].step_seconds
    # A point of minutes changes too little within seconds to be drawn anew for each report.
    seen = marks if step <= FINE_STEP else marks[:-1]
    revision = seen, step_of_now(min(60, max(SLOT_SECONDS, step // 6)))
    return HttpResponse(SHARED.get(("charts", endpoint.pk, span), revision, lambda: _charts(request, endpoint, span)))


def _charts(request: HttpRequest, endpoint: Endpoint, span: str) -> str:
    seconds, step = RANGES[span].seconds, RANGES[span].step_seconds
    until = int(now().timestamp()) // step * step + step
    rollouts = list(rollout_list(endpoint_id=endpoint.pk)[:DRAWN])
    once(request, ("drawn", endpoint.pk), lambda: [rollout.pk for rollout in rollouts])  # for the events beside it
    context = {"charts": charts_of(endpoint, rollouts, since=until - seconds, until=until, step=step)}
    return render_to_string("rollouts/_charts.html", context)


def _marks(request: HttpRequest, endpoint: Endpoint) -> tuple[object, ...]:
    """What the shared parts are made from: the endpoint, when its route changed, its newest rollouts, and last the
    newest report. Looked up once for all who ask at the same moment."""

    def look() -> tuple[object, ...]:
        rollouts = tuple(rollout_list(endpoint_id=endpoint.pk).values_list(*ROLLOUT_MARKS)[:2])
        return rollouts, newest_arrival(endpoint.name)

    looked = once(request, ("marks", endpoint.pk), lambda: LOOKS.get(("marks", endpoint.pk), look))
    return endpoint.revision, endpoint.generation, _changed_at(endpoint), *looked


def _changed_at(endpoint: Endpoint) -> datetime | None:
    """Since when the target routes as the plan has it: the requests of this split are counted from there."""
    plan, observed = plan_of(endpoint), observed_of(endpoint)
    route = observed.route if observed else None
    return route.applied_at if plan and route and route.period == plan.route.period else None


@declares("endpoint.read")
@cache_control(private=True, no_cache=True)
@conditional_page
def endpoint_events(request: HttpRequest, name: str) -> HttpResponse:
    """The newest transitions at an endpoint, and what somebody else changed at its target."""
    endpoint = endpoint_of(request, name)
    newest = rollout_list(endpoint_id=endpoint.pk).values_list("pk", flat=True)[:DRAWN]
    ids = once(request, ("drawn", endpoint.pk), lambda: list(newest))
    context = {
        "events": latest_transitions(ids, EVENTS),
        "by_hand": endpoint_divergences(endpoint.pk, EVENTS),
        "endpoint": endpoint,
    }
    return render(request, "rollouts/_endpoint_events.html", context)


@declares("model.read")
@cache_control(private=True, no_cache=True)
@conditional_page
def model_live(request: HttpRequest, name: str) -> HttpResponse:
    """The endpoints that serve a model, with what runs on each."""
    rows: list[dict[str, Any]] = []
    for endpoint in endpoint_list(actor_of_request(request)).filter(model__name=name):
        plan, observed = plan_of(endpoint), observed_of(endpoint)
        variants = [(item.version, item.role.value, plan.weight_bp(item.key)) for item in plan.variants] if plan else []
        rows.append({"endpoint": endpoint, "variants": variants, "observed": observed})
    return render(request, "rollouts/_model_live.html", {"rows": rows, "name": name})


@declares("model.read")
@cache_control(private=True, no_cache=True)
@conditional_page
def version_offers(request: HttpRequest, name: str, reference: str) -> HttpResponse:
    """Where one version could be rolled out now, and if not, why not."""
    version = version_by(name, reference, actor=actor_of_request(request))
    endpoints = list(endpoint_list(actor_of_request(request)).filter(model__name=name))
    offers = offers_of(actor_of_request(request), endpoints, {name: [version]}, only_newer=False)
    serving = [item for item in endpoints if item.stable_version_id == version.pk]
    context = {"offers": offers, "serving": serving, "version": version}
    return render(request, "rollouts/_version_offers.html", context)
