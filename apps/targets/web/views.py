"""The endpoint page and the parts of it that are known here: what is desired, what the target says."""

from __future__ import annotations

import shlex
from datetime import datetime
from typing import Any, Final

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.views.decorators.cache import cache_control
from django.views.decorators.http import conditional_page

from apps.accounts.services.access import access_allows
from apps.accounts.web_access import actor_of_request, declares
from apps.kernel.actor import Actor
from apps.kernel.looks import LOOKS
from apps.kernel.rendered import SHARED, step_of_now
from apps.registry.services.example import sample_of
from apps.targets.domain.driver import Observed, VariantState
from apps.targets.domain.observed import divergence
from apps.targets.domain.plan import EndpointPlan
from apps.targets.domain.ranges import DEFAULT_RANGE, RANGES
from apps.targets.domain.tones import tone_of
from apps.targets.models import Endpoint
from apps.targets.selectors import observed_of, plan_of
from apps.targets.services.freshness import targets_confirmed_at
from apps.targets.services.seen import endpoint_of
from apps.targets.web.follow import following_of
from apps.targets.web.health import health_of

WAS: Final = {
    VariantState.STARTING: "was starting",
    VariantState.READY: "was ready",
    VariantState.UNREADY: "was not ready",
    VariantState.BACKOFF: "waited to restart",
    VariantState.FAILED: "had failed",
    VariantState.STOPPING: "was stopping",
}
"""What is said of a variant whose target does not answer any more."""


@declares("endpoint.read")
def endpoint(request: HttpRequest, name: str) -> HttpResponse:
    """The page; traffic, charts and events are fragments of other rooms. Raises NotFound."""
    found = endpoint_of(request, name)
    chosen = request.GET.get("range", DEFAULT_RANGE)
    if chosen not in RANGES:
        chosen = DEFAULT_RANGE
    observed, plan = observed_of(found), plan_of(found)
    context = {
        "endpoint": found,
        "ranges": [(name, one.word) for name, one in RANGES.items()],
        "chosen": chosen,
        **_call(actor_of_request(request), found, observed),
        "keys": [variant.key for variant in plan.variants] if plan else [],
        "base_url": settings.PILOTHOUSE_BASE_URL,
        **following_of(actor_of_request(request), found),
    }
    return render(request, "targets/endpoint.html", context)


@declares("endpoint.read")
@cache_control(private=True, no_cache=True)
@conditional_page
def health(request: HttpRequest, name: str) -> HttpResponse:
    """The sentence on how the endpoint stands: the same for everybody."""
    found = endpoint_of(request, name)
    confirmed_at = LOOKS.get(("confirmed", found.target_id), lambda: _confirmed(found))

    def draw() -> str:
        plan, observed = plan_of(found), observed_of(found)
        context = {"health": health_of(found, plan, observed), "endpoint": found, "confirmed_at": confirmed_at}
        return render_to_string("targets/_health.html", context)

    return HttpResponse(SHARED.get(("health", found.pk), (*_marks(found), confirmed_at), draw))


@declares("endpoint.read")
@cache_control(private=True, no_cache=True)
@conditional_page
def variants(request: HttpRequest, name: str) -> HttpResponse:
    """Wanted and applied weights, processes, and where both differ: the same for everybody."""
    found = endpoint_of(request, name)
    return HttpResponse(SHARED.get(("variants", found.pk), _marks(found), lambda: _variants(found)))


def _variants(found: Endpoint) -> str:
    plan, observed = plan_of(found), observed_of(found)
    context = {
        "endpoint": found,
        "plan": plan,
        "observed": observed,
        "rows": _rows(plan, observed, is_known=not found.observe_error),
        "divergence": divergence(plan, observed) if plan and observed else "",
    }
    return render_to_string("targets/_variants.html", context)


def _marks(found: Endpoint) -> tuple[object, ...]:
    """What the shared parts are made from, and the time in steps: they say how long ago something was."""
    asked = (found.generation, found.applied_generation, found.apply_attempts, found.apply_error, found.follows)
    seen = (found.observed_at, found.observe_error, found.stable_version_id)
    return found.revision, *asked, *seen, step_of_now()


def _rows(plan: EndpointPlan | None, observed: Observed | None, *, is_known: bool) -> list[dict[str, Any]]:
    """Every variant that is wanted or there, stable first. Without ``is_known`` the target does not answer: what was
    ready may be gone, so its state is of the past and its colour says nothing good."""
    wanted = {variant.key: variant for variant in plan.variants} if plan else {}
    there = {variant.key: variant for variant in observed.variants} if observed else {}
    applied = observed.route.weights_bp if observed and observed.route else {}
    rows = []
    for key in {**wanted, **there}:
        spec, seen = wanted.get(key), there.get(key)
        is_mirrored = plan is not None and plan.route.mirror is not None and plan.route.mirror.variant == key
        rows.append(
            {
                "key": key,
                "version": spec.version if spec else (seen.version if seen and seen.version else key),
                "role": spec.role.value if spec else "leaving",
                "tone": spec.role.value if spec else tone_of(key),
                "wanted_bp": plan.weight_bp(key) if plan else 0,
                "applied_bp": applied.get(key) if applied else None,
                "mirror_bp": plan.route.mirror.fraction_bp if is_mirrored and plan and plan.route.mirror else 0,
                "seen": seen,
                "state": ("unknown" if not is_known else seen.state.value) if seen else "pending",
                "word": "" if is_known or seen is None else WAS[seen.state],
            }
        )
    return sorted(rows, key=lambda row: ("stable", "candidate", "shadow", "warm", "leaving").index(str(row["role"])))


def _call(actor: Actor, found: Endpoint, observed: Observed | None) -> dict[str, Any]:
    """How it is called: where, and with a row that the stable version takes, for whoever may read its model."""
    version = found.stable_version
    may_read = version is not None and access_allows(actor, "model.read", found.model.team_id)
    sample = sample_of(version) if version is not None and may_read else None
    address = observed.address if observed else ""
    return {
        "address": address or f"http://<gateway>/serve/{found.name}",
        "is_address_known": bool(address),
        "sample": sample,
        "sample_said": shlex.quote(sample.body) if sample else "@rows.json",
    }


def _confirmed(found: Endpoint) -> datetime | None:
    """When the target last confirmed what is shown, None where no note of it is kept: the row's time alone is when it
    last changed, which says nothing of since when nobody answers."""
    noted = targets_confirmed_at([found.target_id]).get(found.target_id)
    return noted and max(noted, found.observed_at or noted)
