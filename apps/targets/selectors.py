"""Reads of targets, endpoints and freeze windows."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet

from apps.accounts.services.access import access_allows, scope_q
from apps.kernel.actor import Actor
from apps.kernel.errors import NotFound
from apps.targets.domain.driver import WAYS, Capabilities, Observed, Support
from apps.targets.domain.observed import observed_from_json
from apps.targets.domain.plan import EndpointPlan
from apps.targets.models import Endpoint, Environment, FreezeWindow, Target


def target_get(target_id: str, actor: Actor | None = None) -> Target:
    """By id or name; with ``actor`` only one that they may see. Raises NotFound."""
    target = target_list(actor).filter(Q(pk=target_id) | Q(name=target_id)).first()
    if target is None:
        raise NotFound("target_not_found", f"There is no target {target_id!r}.")
    return target


def target_list(actor: Actor | None = None) -> QuerySet[Target]:
    """Every target, by name; with ``actor`` those of the environments that they may look into, with any team."""
    found = Target.objects.order_by("name")
    return found if actor is None else found.filter(environment__in=environments_for(actor, "target.read"))


def environments_for(actor: Actor, action: str) -> list[str]:
    """The environments in which ``actor`` may do ``action`` with some team. Targets belong to no team."""
    return [one.value for one in Environment if access_allows(actor, action, None, one.value)]


def capabilities_of(target: Target) -> Capabilities:
    """What the last probe found; a target never probed can do nothing."""
    stored = target.capabilities
    ways = {name: Support(stored[name]) for name in WAYS if name in stored}
    return Capabilities(
        **ways,
        min_weight_bp=stored.get("min_weight_bp", 1),
        note=stored.get("note", ""),
        keeps_idle=stored.get("keeps_idle", True),
    )


def facts_of(target: Target) -> dict[str, Any]:
    """What else the last probe found: the driver's own (Kubernetes: ``missing_rights``, ``role``)."""
    return dict(target.capabilities.get("facts") or {})


def endpoint_get(endpoint_id: str, actor: Actor | None = None) -> Endpoint:
    """By id or name, with target, model and stable version in one query; with ``actor`` only one that they may see.
    Raises NotFound, for removed ones too."""
    endpoint = endpoint_list(actor).filter(Q(pk=endpoint_id) | Q(name=endpoint_id)).first()
    if endpoint is None:
        raise NotFound("endpoint_not_found", f"There is no endpoint {endpoint_id!r}.")
    return endpoint


def endpoint_list(
    actor: Actor | None = None, *, target_id: str | None = None, environment: str | None = None
) -> QuerySet[Endpoint]:
    """Every endpoint that was not removed, by name, with target, model and stable version; with ``actor`` those that
    they may see."""
    found = _live().order_by("name")
    if actor is not None:
        found = found.filter(scope_q(actor, "endpoint.read", team="team", environment="target__environment"))
    if target_id is not None:
        found = found.filter(target_id=target_id)
    if environment is not None:
        found = found.filter(target__environment=environment)
    return found


def plan_of(endpoint: Endpoint) -> EndpointPlan | None:
    """The desired plan; None before the first."""
    return EndpointPlan.from_json(endpoint.desired) if endpoint.desired else None


def observed_of(endpoint: Endpoint) -> Observed | None:
    """What the target last said; None when it said nothing yet or does not know the endpoint."""
    return observed_from_json(endpoint.observed) if endpoint.observed else None


def freeze_active(endpoint: Endpoint, at: datetime) -> FreezeWindow | None:
    """The freeze window that holds for ``endpoint`` at ``at``: its own, its environment's, or one for everything.

    With several the one that ends last, because that is when moving on becomes possible.
    """
    own = Q(endpoint_id=endpoint.pk)
    wider = Q(endpoint_id=None) & Q(environment__in=["", endpoint.target.environment])
    return FreezeWindow.objects.filter(own | wider, starts_at__lte=at, ends_at__gt=at).order_by("-ends_at").first()


def freeze_list(actor: Actor | None = None, *, at: datetime | None = None) -> QuerySet[FreezeWindow]:
    """Freeze windows, soonest first; with ``at`` those that are not over then, with ``actor`` those of endpoints and
    environments that they may see."""
    windows = FreezeWindow.objects.select_related("endpoint__target").order_by("starts_at")
    if actor is not None:
        own = scope_q(actor, "endpoint.read", team="endpoint__team", environment="endpoint__target__environment")
        wide = Q(endpoint_id=None, environment__in=["", *environments_for(actor, "endpoint.read")])
        windows = windows.filter(Q(endpoint_id__isnull=False) & own | wide)
    return windows if at is None else windows.filter(ends_at__gt=at)


def _live() -> QuerySet[Endpoint]:
    return Endpoint.objects.filter(removed_at=None).select_related("target", "model", "stable_version")


def targets_in_bulk(ids: Iterable[str]) -> dict[str, Target]:
    """Targets by id, one query."""
    return Target.objects.in_bulk(list(ids))
