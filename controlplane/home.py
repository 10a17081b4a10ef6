"""The fleet: the one page that puts every room side by side."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import cache_control
from django.views.decorators.http import conditional_page

from apps.accounts.domain.doors import SIGNED_IN
from apps.accounts.web_access import actor_of_request, allows, declares
from apps.alerts.domain.incidents import IncidentState
from apps.alerts.models import Incident
from apps.alerts.selectors import WORST_FIRST, incident_list
from apps.alerts.web.said import row_of
from apps.kernel.actor import Actor
from apps.registry.selectors import model_list, models_named
from apps.rollouts.domain.machine import Phase
from apps.rollouts.domain.sequence import SequencePhase
from apps.rollouts.models import Rollout
from apps.rollouts.selectors import rollout_list, rollouts_unacknowledged, sequence_list
from apps.rollouts.web.measures import Measured, measure_many
from apps.rollouts.web.offers import offers_of
from apps.slo.selectors import BurnShown, budget_least, burns_of_many
from apps.slo.web.said import burn_row
from apps.targets.models import Endpoint
from apps.targets.selectors import endpoint_list, observed_of, plan_of
from apps.targets.services.scope import why_not_at
from apps.targets.web.health import Health, health_of
from controlplane.context import waiting_for
from controlplane.templatetags.words import state_of

WAITS = frozenset({Phase.PAUSED, Phase.WAITING, Phase.ROLLING_BACK})
SEQUENCE_WAITS = (SequencePhase.STOPPED, SequencePhase.WAITING, SequencePhase.PAUSED)
MAX_WENT_BACK = 20
MAX_ENDPOINTS = 200
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

    @property
    def rank(self) -> tuple[int, int, float, str]:
        """Worst first: what callers meet now, who is paged, then whose budget goes first."""
        worst = min((_SEVERITIES.get(one.severity, 2) for one in self.alerts), default=3)
        left = 1.0 if self.burn is None or self.burn.remaining is None else self.burn.remaining
        return self.health.rank, worst, left, self.endpoint.name

    @property
    def budget(self) -> dict[str, Any] | None:
        """What is left of it, and until when, in words."""
        return burn_row(self.burn) if self.burn else None

    @property
    def told(self) -> list[dict[str, Any]]:
        """Its worst alerts, in words."""
        return [row_of(one) for one in self.alerts[:2]]


@dataclass(frozen=True, slots=True)
class Need:
    """Something that waits for a person: shape and word, sentence, and where to go. ``acknowledge``: the rollout that
    they may say they know of, "" where there is none or they may not."""

    state: str
    word: str
    title: str
    sentence: str
    url_name: str
    url_arg: str
    action: str
    acknowledge: str = ""


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
    lines = _lines(actor)
    idle = [line.endpoint for line in lines if line.rollout is None]
    names = {endpoint.model.name for endpoint in idle}
    models = {model.name: list(model.versions.all()) for model in model_list(actor=actor, names=names)}
    needs = [*_reviews(request), *_needs(actor, lines)]
    context: dict[str, Any] = {
        "lines": sorted(lines, key=lambda line: line.rank),
        "needs": needs,
        "has_bad": any(state_of(need.state)[0] == "bad" or need.state == "bad" for need in needs),
        "offers": offers_of(actor, idle, models)[:12],
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


def _reviews(request: HttpRequest) -> list[Need]:
    """What waits for this person's decision, the earliest deadline first."""
    found = waiting_for(request)[:5]
    return [
        Need("waiting", "", one.title, one.request.split("\n", 1)[0][:200], "reviews:detail", one.pk, "Decide")
        for one in found
    ]


def _lines(actor: Actor) -> list[Line]:
    endpoints = list(endpoint_list(actor=actor)[:MAX_ENDPOINTS])
    moving: dict[str, Rollout] = {}
    # newest first, so the one that moves wins over those that wait
    for rollout in rollout_list(is_active=True, actor=actor):
        if rollout.phase != Phase.PENDING or rollout.endpoint_id not in moving:
            moving[rollout.endpoint_id] = rollout
    plans = {endpoint.name: plan for endpoint in endpoints if (plan := plan_of(endpoint)) is not None and plan.variants}
    measured = measure_many(plans)
    names = [endpoint.name for endpoint in endpoints]
    burns, alerts = burns_of_many(names), _alerts(actor, names)
    return [
        Line(
            endpoint,
            health_of(endpoint, plans.get(endpoint.name), observed_of(endpoint)),
            measured.get(endpoint.name),
            moving.get(endpoint.pk),
            budget_least(burns.get(endpoint.name, ())),
            alerts.get(endpoint.name, ()),
        )
        for endpoint in endpoints
    ]


def _alerts(actor: Actor, names: list[str]) -> dict[str, list[Incident]]:
    """The open alerts of these endpoints that ``actor`` may see, worst first."""
    found: dict[str, list[Incident]] = defaultdict(list)
    rows = incident_list(actor).filter(subject_type="endpoint", subject_name__in=names)
    for row in rows.exclude(state=IncidentState.RESOLVED).order_by(*WORST_FIRST):
        found[row.subject_name].append(row)
    return found


def _needs(actor: Actor, lines: list[Line]) -> list[Need]:
    needs = []
    for line in lines:
        if line.health.level in {"bad", "attention"}:
            needs.append(
                Need(
                    line.health.level,
                    line.health.word,
                    line.endpoint.name,
                    line.health.sentence,
                    "targets:endpoint",
                    line.endpoint.name,
                    "Look",
                )
            )
        if line.rollout is not None and line.rollout.look_error:
            needs.append(_engine_need(line.rollout))
        elif line.rollout is not None and line.rollout.phase in WAITS:
            needs.append(_need_of(line.rollout, "Decide" if line.rollout.phase != Phase.ROLLING_BACK else "Watch"))
    for rollout in rollouts_unacknowledged(actor)[:MAX_WENT_BACK]:
        is_theirs = not why_not_at(actor, "rollout.acknowledge", rollout.endpoint)
        needs.append(replace(_need_of(rollout, "See why"), acknowledge=rollout.pk if is_theirs else ""))
    return needs + _sequences(actor)


def _sequences(actor: Actor) -> list[Need]:
    """Rollout sequences that go on only when a person says so."""
    found = sequence_list(actor).filter(phase__in=SEQUENCE_WAITS).prefetch_related(None)[:MAX_WENT_BACK]
    return [
        Need(
            "bad" if one.phase == SequencePhase.STOPPED else "attention", one.phase,
            f"{one.candidate_version.semver} in waves", one.reason, "rollouts:sequence", one.pk, "Decide",
        )
        for one in found
    ]  # fmt: skip


def _engine_need(rollout: Rollout) -> Need:
    title = f"{rollout.candidate_version.semver} on {rollout.endpoint.name}"
    said = f"The engine fails at it, so no guardrail is judged; traffic stays as it is. {rollout.look_error}"
    return Need("unknown", "engine error", title, said, "rollouts:detail", rollout.pk, "Look")


def _need_of(rollout: Rollout, action: str) -> Need:
    title = f"{rollout.candidate_version.semver} on {rollout.endpoint.name}"
    return Need(rollout.phase, "", title, rollout.reason, "rollouts:detail", rollout.pk, action)
