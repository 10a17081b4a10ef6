"""The list of rollouts and the page of one, with the fragments it is made of."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import cache_control
from django.views.decorators.http import conditional_page

from apps.accounts.web_access import actor_of_request, allows, declares
from apps.kernel.buttons import reasons_of
from apps.kernel.clock import now
from apps.kernel.errors import NotFound
from apps.rollouts.domain.machine import ACTIVE, TERMINAL, Phase
from apps.rollouts.domain.plan import FULL_BP, Plan
from apps.rollouts.models import Rollout
from apps.rollouts.selectors import WENT_BACK, review_of, rollout_get, rollout_list, sequence_of, transitions_of
from apps.rollouts.services.current import rollout_current
from apps.rollouts.web.aliases import aliases_sentence
from apps.rollouts.web.buttons import buttons_of
from apps.rollouts.web.clocks import clock_of
from apps.rollouts.web.figures import charts_of
from apps.rollouts.web.measures import in_story, measure
from apps.rollouts.web.reviews import reviews_of
from apps.rollouts.web.story import comparison, rail_of, sentence_of, stops_of, tiles_of
from apps.rollouts.web.trial import trial_of
from apps.targets.selectors import endpoint_get, plan_of

PAGE_SIZE = 50
COMPARED_REQUESTS = 20
"""Of each version in the last minutes; a 95th percentile of fewer is their greatest or next to it."""
FACETS = (("", "All"), ("active", "Running"), ("promoted", "Promoted"), ("back", "Went back"))
PHASES_OF = {
    "active": sorted(ACTIVE),
    "promoted": [Phase.PROMOTED, Phase.COMPLETED],
    "back": [Phase.ROLLED_BACK, Phase.ABORTED, Phase.FAILED, Phase.SUPERSEDED],
}


@declares("rollout.read")
def rollouts(request: HttpRequest) -> HttpResponse:
    """Every rollout, newest first, with the sentence on how it ended."""
    return render(request, "rollouts/list.html", _listed(request) | {"may_start": allows(request, "rollout.start")})


@declares("rollout.read")
@cache_control(private=True, no_cache=True)
@conditional_page
def rows(request: HttpRequest) -> HttpResponse:
    return render(request, "rollouts/_rows.html", _listed(request))


@declares("rollout.read")
def rollout(request: HttpRequest, rollout_id: str) -> HttpResponse:
    """One rollout. Raises NotFound."""
    found = rollout_get(rollout_id, actor_of_request(request))
    plan = Plan.from_json(found.plan)
    context = {
        "rollout": found,
        "plan": plan,
        "stops": stops_of(plan),
        "reviews": reviews_of(found, plan),
        "aliases_said": aliases_sentence(found),
        "in_sequence": sequence_of(found.pk),
    }
    return render(request, "rollouts/detail.html", context)


@declares("rollout.read")
@cache_control(private=True, no_cache=True)
@conditional_page
def head(request: HttpRequest, rollout_id: str) -> HttpResponse:
    """The sentence, the rail with clocks, the gates, and the split."""
    found = rollout_get(rollout_id, actor_of_request(request))
    plan, phase, current = Plan.from_json(found.plan), Phase(found.phase), rollout_current(found)
    context: dict[str, Any] = {
        "rollout": found,
        "sentence": sentence_of(
            phase,
            found.candidate_version.semver,
            found.stable_version.semver,
            found.weight_bp,
            found.mirror_bp,
            is_approval=bool(review_of(found)),
        ),
        "reason": current.reason,
        "rail": rail_of(plan, phase, found.step),
        "clock": clock_of(found, plan),
        "tiles": tiles_of(plan, phase, found.step, current.findings),
        "is_over": phase in TERMINAL,
        "warm_until": found.warm_until if found.warm_until and found.warm_until > now() else None,
        "review_id": review_of(found),
        "trial": trial_of(found),
    }
    return render(request, "rollouts/_head.html", context | _measured(found))


@declares("rollout.read")
@cache_control(private=True, no_cache=True)
@conditional_page
def charts(request: HttpRequest, rollout_id: str) -> HttpResponse:
    """Split, latency and errors from just before the start to just after the end."""
    found = rollout_get(rollout_id, actor_of_request(request))
    begin, end = _range_of(found, now())
    step = _step((end - begin).total_seconds())
    since, until = int(begin.timestamp()) // step * step, int(end.timestamp()) // step * step + step
    data = charts_of(found.endpoint, [found], since=since, until=until, step=step, first=_own_keys(found))
    return render(request, "rollouts/_charts.html", {"charts": data, "is_rollout": True})


@declares("rollout.read")
@cache_control(private=True, no_cache=True)
@conditional_page
def log(request: HttpRequest, rollout_id: str) -> HttpResponse:
    """Every transition, newest first."""
    found = rollout_get(rollout_id, actor_of_request(request))
    transitions = transitions_of(rollout_id).defer("state", "seen", "decision").order_by("-revision")
    return render(request, "rollouts/_log.html", {"rollout": found, "transitions": transitions})


@declares("rollout.read")
@cache_control(private=True, max_age=3600)
def evidence(request: HttpRequest, rollout_id: str, revision: int) -> HttpResponse:
    """What was known when one transition was decided; it never changes. Raises NotFound."""
    whole = rollout_get(rollout_id, actor_of_request(request))
    found = transitions_of(whole.pk).filter(revision=revision).first()
    if found is None:
        raise NotFound("transition_unknown", f"This rollout has no transition of revision {revision}.")
    return render(request, "rollouts/_evidence.html", {"transition": found})


@declares("rollout.read")
@cache_control(private=True, no_store=True)
def actions(request: HttpRequest, rollout_id: str) -> HttpResponse:
    """The buttons, each with the revision and step that this person saw."""
    found = rollout_get(rollout_id, actor_of_request(request))
    buttons = buttons_of(request, found)
    context: dict[str, Any] = {"rollout": found, "buttons": buttons, "reasons": reasons_of(buttons)}
    if found.phase in WENT_BACK and allows(request, "rollout.start"):
        # repeating what went back is never the first thing to do
        query = urlencode({"model": found.endpoint.model.name, "endpoint": found.endpoint.name})
        context |= {"plan_url": f"{reverse('rollouts:new')}?{query}", "is_plan_primary": bool(found.acknowledged_at)}
    return render(request, "rollouts/_actions.html", context)


def _listed(request: HttpRequest) -> dict[str, Any]:
    facet, endpoint = request.GET.get("show", ""), request.GET.get("endpoint", "")
    actor = actor_of_request(request)
    found = rollout_list(actor)
    if facet in PHASES_OF:
        found = found.filter(phase__in=PHASES_OF[facet])
    if endpoint:
        found = found.filter(endpoint=endpoint_get(endpoint, actor))
    page = Paginator(found, PAGE_SIZE).get_page(request.GET.get("page"))
    return {"page": page, "facets": FACETS, "facet": facet, "endpoint": endpoint}


def _measured(found: Rollout) -> dict[str, Any]:
    """The split as it is wanted and measured now, and the comparison of both versions; nothing once it is over."""
    plan = plan_of(found.endpoint)
    if found.phase in TERMINAL or plan is None:
        return {"measured": None, "compared": ""}
    measured = in_story(measure(plan), found)
    candidate = measured.part(found.candidate_version.variant_key)
    stable = measured.part(found.stable_version.variant_key)
    mine, other = (part.p95 if part and part.judged >= COMPARED_REQUESTS else None for part in (candidate, stable))
    share = candidate.measured if candidate and found.weight_bp not in (0, FULL_BP) else None
    return {
        "measured": measured,
        "compared": comparison(mine, other, found.stable_version.semver),
        "share": share,
        "requests": measured.requests,
    }


def _range_of(found: Rollout, at: datetime) -> tuple[datetime, datetime]:
    """From the start to the end with a margin of a twentieth on each side, 10 s to 2 min; to ``at`` while it goes on.
    What happened at the endpoint after the end is told on the page of what did it."""
    end = found.finished_at or at
    margin = timedelta(seconds=max(10.0, min(120.0, (end - found.created_at).total_seconds() / 20)))
    return found.created_at - margin, min(at, end + margin) if found.finished_at else at


def _own_keys(found: Rollout) -> tuple[str, str]:
    """Both variants, the candidate first."""
    return found.candidate_version.variant_key, found.stable_version.variant_key


def _step(seconds: float) -> int:
    """A bucket that gives at most about 120 points: a multiple of a slot."""
    return max(10, int(seconds / 120) // 10 * 10)
