"""The targets: what they are, whether they answer, what they can do, and asking them now."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from apps.accounts.web_access import actor_of_request, declares
from apps.kernel.clock import now
from apps.kernel.errors import DomainError
from apps.targets.domain.driver import Capabilities, Support
from apps.targets.models import Endpoint, Target, TrafficPolicy
from apps.targets.selectors import capabilities_of, endpoint_list, facts_of, target_get, target_list
from apps.targets.services.connect import target_probe
from apps.targets.services.credentials import credentials_replace
from apps.targets.services.freshness import targets_confirmed_at
from apps.targets.services.scope import why_not_shared
from apps.targets.web.connect_fields import FORMS, Field, secrets_of

KINDS = {
    "local": "node agent on one machine",
    "fake": "a pretended target, for tests",
    "kubernetes": "a namespace of a cluster",
}
SOON = timedelta(days=7)
POLICIES = {
    TrafficPolicy.HOLD: "a rollout waits for callers",
    TrafficPolicy.PROBE: "a rollout calls it by itself",
    TrafficPolicy.SKIP: "a rollout goes on without proof and says so",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One target as the page shows it; ``seen_at`` is the newest time it answered anything;
    ``why_not``: why this person may not ask it."""

    target: Target
    kind: str
    level: str
    word: str
    seen_at: datetime | None
    abilities: list[tuple[str, str]]
    quiet: str
    endpoints: list[Endpoint]
    why_not: str
    ends: tuple[str, str] | None = None
    secrets: tuple[Field, ...] = ()
    is_editable: bool = False


@declares("target.read")
def entrance(request: HttpRequest) -> HttpResponse:
    return redirect("settings:targets")


@declares("target.read")
def targets(request: HttpRequest) -> HttpResponse:
    """Every target with its driver, environment, last contact, abilities and endpoints."""
    actor = actor_of_request(request)
    found = list(target_list(actor))
    placed: dict[str, list[Endpoint]] = defaultdict(list)
    for endpoint in endpoint_list(actor):
        placed[endpoint.target_id].append(endpoint)
    answered = targets_confirmed_at([target.pk for target in found])
    whys = {name: why_not_shared(actor, "target.write", name) for name in {target.environment for target in found}}
    context = {
        "tab": "targets",
        "rows": [
            _row(target, placed[target.pk], answered.get(target.pk), whys[target.environment]) for target in found
        ],
        "reasons": sorted(filter(None, set(whys.values()))),
        "base_url": settings.PILOTHOUSE_BASE_URL,
    }
    return render(request, "targets/settings_targets.html", context)


@declares({"POST": "target.write"})
def probe(request: HttpRequest, name: str) -> HttpResponse:
    """Ask one target now what it can do. Raises NotFound."""
    actor = actor_of_request(request)
    return _asked(request, target_get(name, actor))


def _asked(request: HttpRequest, target: Target) -> HttpResponse:
    report = target_probe(actor=actor_of_request(request), target_id=target.pk)
    if report is None:
        said = target_get(target.pk).probe_error
        messages.error(request, f"{target.name} did not answer: {said} What was known before stays.")
    else:
        messages.success(request, f"{target.name} answered: version {report.version or 'not told'}.")
    return redirect("settings:targets")


@declares({"POST": "target.write"})
def credentials(request: HttpRequest, name: str) -> HttpResponse:
    """Put other credentials in the place of the stored ones, and ask the target with them; a field left empty keeps
    what is stored. Raises NotFound."""
    actor = actor_of_request(request)
    target = target_get(name, actor)
    given = {
        field.name.removeprefix("credentials."): request.POST.get(field.name, "").strip()
        for field in secrets_of(target.kind, str(target.connection.get("auth", {}).get("mode", "")))
    }
    typed = {key: value for key, value in given.items() if value}
    if not typed:
        messages.error(request, f"{target.name} keeps its credentials: nothing was typed.")
        return redirect("settings:targets")
    try:
        credentials_replace(actor=actor, target_id=target.pk, credentials=typed, keeps_others=True)
    except DomainError as error:
        messages.error(request, f"{target.name} keeps its credentials: {error.detail}")
        return redirect("settings:targets")
    return _asked(request, target)


def _row(target: Target, endpoints: list[Endpoint], answered_at: datetime | None, why_not: str) -> Row:
    # A failed probe has a time as well, but was no contact.
    probed_at = None if target.probe_error else target.probed_at
    times = [at for at in (answered_at, probed_at, *(item.observed_at for item in endpoints)) if at is not None]
    level, word = _state(target)
    return Row(
        target=target,
        kind=KINDS.get(target.kind, target.kind),
        level=level,
        word=word,
        seen_at=max(times, default=None),
        abilities=_abilities(capabilities_of(target)) if target.capabilities else [],
        quiet=POLICIES[TrafficPolicy(target.no_traffic_policy)],
        endpoints=endpoints,
        why_not=why_not,
        ends=_ends(target),
        secrets=secrets_of(target.kind, str(target.connection.get("auth", {}).get("mode", ""))),
        is_editable=target.kind in FORMS,
    )


def _ends(target: Target) -> tuple[str, str] | None:
    """How the credentials stand in time, as level and sentence; None where they do not say when they end."""
    told = facts_of(target).get("credentials_end_at")
    if not told:
        return None
    end = datetime.fromisoformat(told)
    when = f"{end:%d %B %Y, %H:%M} UTC"
    if end <= now():
        return "bad", f"Its credentials ended on {when}: renew them, nothing new can be started."
    if end - now() < SOON:
        return "attention", f"Its credentials end on {when}: renew them before that."
    return "ok", f"Its credentials hold until {when}."


def _state(target: Target) -> tuple[str, str]:
    if target.probe_error:
        return "bad", "does not answer"
    if facts_of(target).get("missing_rights"):
        return "attention", "answers, rights are missing"
    return ("unknown", "not asked yet") if target.probed_at is None else ("ok", "answers")


def _abilities(found: Capabilities) -> list[tuple[str, str]]:
    """(what, how well), the weights with the smallest share that the target can tell apart."""
    ways = {Support.EXACT: "exact", Support.APPROXIMATE: "about", Support.NO: "cannot"}
    smallest = f", from {found.min_weight_bp / 100:g} %" if found.weights is not Support.NO else ""
    return [
        ("shares of traffic", f"{ways[found.weights]}{smallest}"),
        ("copies of requests", ways[found.mirror]),
        ("one variant by header", ways[found.force_header]),
        ("same caller, same variant", ways[found.sticky]),
    ]
