"""The fleet: the one page that puts every room side by side."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import cache_control
from django.views.decorators.http import conditional_page

from apps.accounts.domain.doors import SIGNED_IN
from apps.accounts.web_access import actor_of_request, allows, declares
from apps.alerts.domain.incidents import IncidentState
from apps.alerts.domain.watches import OBJECTIVES, sentences_of
from apps.alerts.models import Incident
from apps.alerts.selectors import WORST_FIRST, incident_list
from apps.alerts.web.said import is_waiting_for, row_of, stalled_now
from apps.kernel.actor import Actor
from apps.registry.selectors import model_list, models_named
from apps.rollouts.domain.machine import Phase
from apps.rollouts.models import Rollout
from apps.rollouts.selectors import rollout_list
from apps.rollouts.web.measures import Measured, measure_many
from apps.rollouts.web.offers import board_of, offers_of
from apps.slo.selectors import BurnShown, budget_least, burns_of_many
from apps.slo.web.said import burn_row
from apps.targets.models import Endpoint
from apps.targets.selectors import endpoint_list, observed_of, plan_of
from apps.targets.web.health import Health, health_of
from controlplane.context import waiting_for
from controlplane.home_needs import needs_of, quiet_of
from controlplane.templatetags.words import state_of

MAX_ENDPOINTS = 200
MAX_ALERTS = 1000
_SEVERITIES = {"page": 0, "ticket": 1}


@dataclass(frozen=True, slots=True)
class Line:
    """One endpoint of the fleet."""

    endpoint: Endpoint
    health: Health
    measured: Measured | None
    rollout: Rollout | None
    burn: BurnShown | None = None
    """Of its objectives the one of which the least budget is left."""
    alerts: Sequence[Incident] = ()
    is_judged: bool = True
    """Whether anybody judges objectives."""

    @property
    def rank(self) -> tuple[int, int, float, str]:
        """Worst first: what callers meet now, who is paged, then whose budget goes first."""
        worst = min((_SEVERITIES.get(one.severity, 2) for one in self.alerts), default=3)
        left = 1.0 if self.burn is None or self.burn.remaining is None else self.burn.remaining
        # What serves while somebody is paged for it stands right after what does not serve at all.
        rank = min(self.health.rank, 1) if worst == 0 else self.health.rank
        return rank, worst, left, self.endpoint.name

    @property
    def budget(self) -> dict[str, Any] | None:
        """What is left of it, and until when, in words."""
        return burn_row(self.burn, is_past=not self.is_judged) if self.burn else None

    @property
    def told(self) -> list[dict[str, Any]]:
        """Its worst alerts, in words."""
        return [row_of(one) for one in self.alerts[:2]]


@declares("fleet.read")
def fleet(request: HttpRequest) -> HttpResponse:
    """The page; its one fragment holds everything that changes."""
    return render(request, "fleet/fleet.html", {"base_url": settings.PILOTHOUSE_BASE_URL})


@declares("fleet.read")
@cache_control(private=True, no_cache=True)
@conditional_page
def fleet_rows(request: HttpRequest) -> HttpResponse:
    """What needs a person, every endpoint (worst first), and what could be rolled out next."""
    actor = actor_of_request(request)
    alerts, stalled = _alerts(actor), stalled_now()
    lines = _lines(actor, alerts, is_judged=all(seen.name != OBJECTIVES for seen in stalled))
    idle = [line.endpoint for line in lines if line.rollout is None]
    names = {endpoint.model.name for endpoint in idle}
    models = {model.name: list(model.versions.all()) for model in model_list(actor=actor, names=names)}
    mine = {row.pk: row for row in alerts if is_waiting_for(actor, row)}
    needs = needs_of(actor, lines, list(mine.values()), waiting_for(request))
    others = [row for row in alerts if row.pk not in mine]
    context: dict[str, Any] = {
        "lines": sorted(lines, key=lambda line: line.rank),
        "needs": needs,
        "stalled": sentences_of(stalled),
        "quiet": quiet_of(others, has_needs=bool(needs), is_looked_at=not stalled),
        "has_bad": any(state_of(need.state)[0] == "bad" or need.state == "bad" for need in needs),
        **board_of(offers_of(actor, idle, models)),
        "has_models": bool(models) or bool(models_named(actor, (), 1)),
        "may_start": allows(request, "rollout.start"),
        "base_url": settings.PILOTHOUSE_BASE_URL,
    }
    return render(request, "fleet/_rows.html", context)


@declares(SIGNED_IN)
@cache_control(private=True, no_store=True)
def waiting(request: HttpRequest) -> HttpResponse:
    """The number beside Reviews in the rail, which every page asks for again."""
    return render(request, "parts/waiting.html", {"count": len(waiting_for(request))})


def _lines(actor: Actor, alerts: Sequence[Incident], *, is_judged: bool) -> list[Line]:
    endpoints = list(endpoint_list(actor=actor)[:MAX_ENDPOINTS])
    moving: dict[str, Rollout] = {}
    # newest first, so the one that moves wins over those that wait
    for rollout in rollout_list(is_active=True, actor=actor):
        if rollout.phase != Phase.PENDING or rollout.endpoint_id not in moving:
            moving[rollout.endpoint_id] = rollout
    plans = {endpoint.name: plan for endpoint in endpoints if (plan := plan_of(endpoint)) is not None and plan.variants}
    measured = measure_many(plans)
    burns = burns_of_many([endpoint.name for endpoint in endpoints])
    told: dict[str, list[Incident]] = defaultdict(list)
    for row in alerts:
        if row.subject_type == "endpoint":
            told[row.subject_name].append(row)
    return [
        Line(
            endpoint,
            health_of(endpoint, plans.get(endpoint.name), observed_of(endpoint)),
            measured.get(endpoint.name),
            moving.get(endpoint.pk),
            budget_least(burns.get(endpoint.name, ())),
            told.get(endpoint.name, ()),
            is_judged,
        )
        for endpoint in endpoints
    ]


def _alerts(actor: Actor) -> list[Incident]:
    """The open alerts that ``actor`` may see, of endpoints and of anything else, worst first."""
    rows = incident_list(actor).exclude(state=IncidentState.RESOLVED)
    return list(rows.order_by(*WORST_FIRST)[:MAX_ALERTS])
