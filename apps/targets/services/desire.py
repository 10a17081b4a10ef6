"""Changing what an endpoint should run: the one writer of ``desired``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from django.db import connection
from django.db.models import F
from django.db.models.functions import Now

from apps.audit.services.record import event_record
from apps.kernel.actor import Actor
from apps.kernel.errors import Conflict, NotFound
from apps.kernel.services.outbox import enqueue_task, publish_many
from apps.targets.domain.plan import EndpointPlan, Mirror, Route, VariantSpec
from apps.targets.models import Endpoint
from apps.targets.selectors import plan_of


def endpoint_desire(
    *,
    actor: Actor,
    endpoint_id: str,
    variants: Sequence[VariantSpec],
    weights_bp: Mapping[str, int],
    mirror: Mirror | None = None,
    sticky_header: str | None = None,
    failover_to: str | None = None,
    arms: Mapping[str, str] | None = None,
    epoch: int | None,
    reason: str,
    stable_version_id: str | None = None,
    rollout_id: str = "",
    is_return: bool = False,
    holder: str = "",
) -> EndpointPlan:
    """Desire this, inside the caller's transaction; returns the plan with its new generation and period.

    1. render the plan after the one just read: generation + 1, period + 1 only when requests would go elsewhere;
    2. nothing differs: return the current plan, write nothing;
    3. UPDATE where generation (and, when given, lease epoch) is still what was read; zero rows: somebody else won;
    4. audit, live frames; without an epoch also the doorbell of the reconciler, since no lease holder will apply it.

    ``stable_version_id`` moves the stable pointer in the same UPDATE. ``holder``: who holds the endpoint's traffic
    (services/traffic.py). Raises InvalidInput naming the field of the plan, NotFound, Conflict ``endpoint_moved`` and
    ``endpoint_held``.
    """
    if not connection.in_atomic_block:
        raise RuntimeError("desired state changes in the transaction of its cause")
    endpoint = Endpoint.objects.filter(pk=endpoint_id, removed_at=None).first()
    if endpoint is None:
        raise NotFound("endpoint_not_found", "There is no such endpoint, or it was removed.")
    if epoch is not None and endpoint.lease_epoch != epoch:
        raise _moved(endpoint)
    if endpoint.traffic_holder not in {"", holder}:
        raise held(endpoint)
    route = Route(0, dict(weights_bp), mirror, sticky_header, failover_to, dict(arms or {}))
    before = plan_of(endpoint)
    plan = plan_next(endpoint, before, tuple(variants), route, rollout_id, is_return=is_return)
    stable_moves = stable_version_id is not None and stable_version_id != endpoint.stable_version_id
    if before is not None and plan == before and not stable_moves:
        return before
    _store(endpoint, plan, epoch, stable_version_id if stable_moves else endpoint.stable_version_id)
    frame = {"id": endpoint.pk, "revision": endpoint.revision + 1}
    publish_many([(f"endpoint:{endpoint.pk}", frame), ("fleet", frame)])
    if epoch is None:
        enqueue_task("targets.reconcile", endpoint_id=endpoint.pk)
    event_record(
        actor=actor,
        verb="endpoint.desired",
        subject_kind="endpoint",
        subject_id=endpoint.pk,
        subject_label=endpoint.name,
        detail=_audit_detail(before, plan, reason, epoch),
    )
    return plan


def plan_next(
    endpoint: Endpoint,
    before: EndpointPlan | None,
    variants: tuple[VariantSpec, ...],
    route: Route,
    rollout_id: str = "",
    *,
    is_return: bool = False,
) -> EndpointPlan:
    """The plan after ``before``: one generation on, one period on only when requests would go elsewhere. Which rollout
    wants the same as before makes no other plan of it."""
    generation, period = endpoint.generation, before.route.period if before else 0
    if before is None or not before.route.same_traffic(route):
        period += 1
    route = replace(route, period=period)
    is_current = before is not None and before.generation == generation  # a removal raises the generation alone
    if before is not None and is_current and (before.variants, before.route) == (variants, route):
        return before
    return EndpointPlan(endpoint.name, generation + 1, variants, route, rollout_id, is_return)


def _store(endpoint: Endpoint, plan: EndpointPlan, epoch: int | None, stable_version_id: str | None) -> None:
    won = Endpoint.objects.filter(
        pk=endpoint.pk, generation=endpoint.generation, removed_at=None, traffic_holder=endpoint.traffic_holder
    )
    if epoch is not None:
        won = won.filter(lease_epoch=epoch)
    rows = won.update(
        desired=plan.to_json(),
        generation=plan.generation,
        stable_version_id=stable_version_id,
        revision=F("revision") + 1,
        apply_attempts=0,
        reconcile_due_at=Now(),
    )
    if rows == 0:
        raise _moved(endpoint)


def held(endpoint: Endpoint) -> Conflict:
    """Something else moves this endpoint's traffic until it ends."""
    kind, _, subject = endpoint.traffic_holder.partition(":")
    return Conflict(
        "endpoint_held",
        f"{endpoint.name} is busy with the {kind} {subject}: wait until it ends, or stop it.",
        extra={"holder": kind, "subject": subject},
    )


def _moved(endpoint: Endpoint) -> Conflict:
    return Conflict(
        "endpoint_moved",
        f"Endpoint {endpoint.name} was changed by somebody else meanwhile; read it again and decide anew.",
        extra={"generation": endpoint.generation, "revision": endpoint.revision},
    )


def _audit_detail(before: EndpointPlan | None, plan: EndpointPlan, reason: str, epoch: int | None) -> dict[str, Any]:
    return {
        "reason": reason,
        "generation": plan.generation,
        "period": plan.route.period,
        "epoch": epoch,
        "weights_bp": {"from": dict(before.route.weights_bp) if before else {}, "to": dict(plan.route.weights_bp)},
        "mirror": plan.route.mirror.variant if plan.route.mirror else None,
        "variants": {variant.key: f"{variant.version} {variant.role.value}" for variant in plan.variants},
    }
