"""What could be rolled out next: ready versions that can stand in for the stable one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.urls import reverse

from apps.kernel.actor import Actor
from apps.registry.domain.semver import Semver
from apps.registry.selectors import drop_in_refusal
from apps.rollouts.domain.machine import ACTIVE, TERMINAL
from apps.rollouts.domain.strategies import FAST
from apps.rollouts.models import Rollout
from apps.targets.services.scope import why_not_at

READY = "ready"
SHOWN = 3
MAX_MORE = 60


@dataclass(frozen=True, slots=True)
class Offer:
    """One version for one endpoint. ``why_not`` is empty when it can be rolled out, ``who_not`` when the person may
    start it there; ``last`` is how it went before."""

    endpoint: str
    version: str
    description: str
    stable: str
    url: str
    why_not: str = ""
    who_not: str = ""
    last: Any = None
    at: datetime | None = None
    """When it was registered."""
    ways: str = ""
    """Where the ways on stand, when time alone does not cure ``why_not``."""


def board_of(offers: Sequence[Offer]) -> dict[str, Any]:
    """What ``rollouts/_offers.html`` draws: a few cards, the most sensible first, and the rest as links by endpoint.

    1. Of each endpoint the newest version comes first, those that were tried there before after the others;
    2. every endpoint's first before any endpoint's second;
    3. in such a round what this person may start, then what was not tried, then what was registered last.
    """
    rounds: dict[str, list[Offer]] = {}
    for offer in reversed(offers):
        rounds.setdefault(offer.endpoint, []).append(offer)
    ranked = []
    for found in rounds.values():
        for place, offer in enumerate(sorted(found, key=_is_tried)):
            since = -offer.at.timestamp() if offer.at else 0.0
            ranked.append(((place, bool(offer.who_not), _is_tried(offer), since, offer.endpoint), offer))
    ordered = [offer for _, offer in sorted(ranked, key=lambda pair: pair[0])]
    more: dict[str, list[Offer]] = {}
    for offer in ordered[SHOWN : SHOWN + MAX_MORE]:
        more.setdefault(offer.endpoint, []).append(offer)
    return {
        "offers": ordered[:SHOWN],
        "more": sorted(more.items()),
        "more_count": max(0, len(ordered) - SHOWN),
        "beyond": max(0, len(ordered) - SHOWN - MAX_MORE),
    }


def _is_tried(offer: Offer) -> bool:
    return offer.last is not None


def offers_of(
    actor: Actor, endpoints: Sequence[Any], versions: Mapping[str, Iterable[Any]], *, only_newer: bool = True
) -> list[Offer]:
    """Per endpoint its offers, oldest version first; ``only_newer``: those above stable that can be started.

    ``versions`` maps a model's name to its versions. One query for all endpoints.
    """

    def who_not(endpoint: Any) -> str:
        return why_not_at(actor, "rollout.start", endpoint)

    return offers_for(endpoints, versions, who_not, only_newer=only_newer)


def offers_for(
    endpoints: Sequence[Any],
    versions: Mapping[str, Iterable[Any]],
    who_not: Callable[[Any], str],
    *,
    only_newer: bool = True,
) -> list[Offer]:
    """The same; ``who_not`` says of an endpoint why those who look may start nothing there, "" where they may."""
    ids = [endpoint.pk for endpoint in endpoints]
    before: dict[tuple[str, str], Rollout] = {}
    busy: set[str] = set()
    for rollout in Rollout.objects.filter(endpoint_id__in=ids).order_by("created_at"):
        before[rollout.endpoint_id, rollout.candidate_version_id] = rollout
        if rollout.phase in ACTIVE:
            busy.add(rollout.endpoint_id)
    offers = []
    for endpoint in endpoints:
        refusal = who_not(endpoint)
        for version in sorted(versions.get(endpoint.model.name, ()), key=_order):
            breaks = _breaks(endpoint, version)
            why_not = _why_not(endpoint, version, breaks, is_busy=endpoint.pk in busy)
            is_newer = endpoint.stable_version is None or _order(version) > _order(endpoint.stable_version)
            if version.pk == endpoint.stable_version_id or (only_newer and (why_not or not is_newer)):
                continue
            last = before.get((endpoint.pk, version.pk))
            offers.append(_offer(endpoint, version, why_not, breaks, last, refusal))
    return offers


def _offer(endpoint: Any, version: Any, why_not: str, breaks: str, last: Rollout | None, who_not: str) -> Offer:
    # In development nobody waits for hours of baking; everywhere else the standard pace is the default.
    pace = {"profile": FAST} if endpoint.target.environment == "development" else {}
    query = urlencode({"model": endpoint.model.name, "version": version.semver, "endpoint": endpoint.name, **pace})
    return Offer(
        endpoint=endpoint.name,
        version=version.semver,
        description=version.description,
        stable=endpoint.stable_version.semver if endpoint.stable_version else "",
        url=f"{reverse('rollouts:new')}?{query}&step=how",
        why_not=why_not,
        who_not=who_not,
        last=last if last is not None and last.phase in TERMINAL else None,
        at=version.created_at,
        ways=f"{reverse('rollouts:new')}?{query}&step=where" if breaks else "",
    )


def _why_not(endpoint: Any, version: Any, breaks: str, *, is_busy: bool) -> str:
    if version.status != READY:
        return f"{version.semver} is not ready ({version.status.replace('_', ' ')})."
    if endpoint.stable_version is None:
        return f"{endpoint.name} serves nothing yet that could be replaced."
    if breaks:
        return breaks
    return f"A rollout is already moving {endpoint.name}." if is_busy else ""


def _breaks(endpoint: Any, version: Any) -> str:
    """Why callers of what is served would break; "" when they would not, or that cannot be known yet."""
    known = version.status == READY and endpoint.stable_version is not None
    return drop_in_refusal(endpoint.stable_version, version) if known else ""


def _order(version: Any) -> Semver:
    return Semver(version.major, version.minor, version.patch)
