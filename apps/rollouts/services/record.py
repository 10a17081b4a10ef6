"""The only writer of ``phase``: one short transaction per decision, or nothing at all."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from django.db import IntegrityError, transaction

from apps.audit.services.record import event_record
from apps.experiments.domain import design, words
from apps.kernel import verdicts
from apps.kernel.actor import SYSTEM, Actor
from apps.kernel.canonical import canonical_json, sha256_of
from apps.kernel.errors import Conflict
from apps.kernel.services.outbox import enqueue_task, publish_many
from apps.kernel.stats import bernoulli, binomial, decision
from apps.rollouts.domain import advance as advance_module
from apps.rollouts.domain import (
    approval,
    commands,
    forward,
    gates,
    machine,
    plan,
    sight,
    split,
    state,
    stretch,
    trial,
    unlooked,
)
from apps.rollouts.domain import decide as decide_module
from apps.rollouts.domain import wanted as wanted_module
from apps.rollouts.domain.advance import advance
from apps.rollouts.domain.decide import findings
from apps.rollouts.domain.machine import TERMINAL, Action, Finish, Phase, Promote, RollBack, Supersede, action_json
from apps.rollouts.domain.state import RolloutState, Seen
from apps.rollouts.domain.wanted import Wanted, is_kept_warm, wanted
from apps.rollouts.models import Rollout, Transition
from apps.rollouts.services.approval import approval_ask, approval_hold, approval_void
from apps.rollouts.services.experiment import arms_of, experiment_follow, experiment_hold
from apps.rollouts.services.observe import Look
from apps.rollouts.services.rows import look_is_good
from apps.targets.domain.plan import EndpointPlan, VariantSpec
from apps.targets.services.desire import endpoint_desire
from apps.targets.services.lease import lease_release, lease_take
from apps.targets.services.variants import variant_beside

if TYPE_CHECKING:
    from apps.experiments.models import Experiment

DECIDING = (
    decide_module, advance_module, approval, commands, forward, gates, machine, plan, sight, split, state, stretch,
    trial, unlooked, wanted_module, verdicts, bernoulli, binomial, design, decision, words,
)  # fmt: skip


@cache
def code_hash() -> str:
    """SHA-256 over the source of every module that takes part in a decision."""
    return sha256_of({module.__name__: inspect.getsource(module) for module in DECIDING})


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a decision came to: the state after it and the generation it wants (None: nothing was wanted anew)."""

    state: RolloutState
    generation: int | None


def transition_record(
    look: Look,
    action: Action,
    *,
    actor: Actor = SYSTEM,
    epoch: int | None = None,
    steal_as: str = "",
) -> Recorded | None:
    """Record ``action``, decided from ``look``; None when somebody else won and nothing was written.

    1. compare-and-swap of (id, phase, revision): zero rows, stop;
    2. with ``steal_as`` take the endpoint's lease from whoever holds it: a worker that is frozen, or in the middle of
       applying something older, is fenced off at the target by the higher epoch;
    3. desire what the new state wants, under the epoch; move the stable pointer with it;
    4. open the review of an approval step, or void it on the way back;
    5. begin, run or end the experiment of the step;
    6. Transition with its evidence, outbox, audit event last (its chain is locked until the commit).
    Rollout, review, experiment, endpoint, audit chain, always: two writers in different orders would deadlock.
    """
    after = advance(look.state, action, look.seen.now)
    try:
        with transaction.atomic():
            if not _swap(look, after, action):
                return None
            if steal_as:
                epoch = _stolen(look, steal_as)
            approval_hold(after)
            experiment = experiment_hold(look, after)
            desired = _desire(look, after, action, experiment, actor=actor, epoch=epoch)
            after = approval_ask(look, after, action)
            approval_void(after, action)
            period = desired.route.period if desired else look.rollout.period
            experiment_follow(experiment, look, after, action, actor=actor, period=period)
            _store(look, after, action, actor, desired, epoch or 0)
            if steal_as and epoch is not None:
                lease_release(look.rollout.endpoint_id, holder=steal_as, epoch=epoch)
    except IntegrityError as error:
        if "one_active_rollout_per_endpoint" in str(error):
            return None  # another pending rollout of this endpoint began first
        raise
    except Conflict as error:
        if error.code in {"endpoint_moved", "endpoint_held"}:
            return None  # the lease changed hands, the plan moved, or an experiment runs there: look again
        raise
    return Recorded(after, _to_apply(look, desired))


def _to_apply(look: Look, desired: EndpointPlan | None) -> int | None:
    """Its generation, unless the target has accepted this very plan already: then there is nothing to tell it."""
    endpoint = look.rollout.endpoint
    if desired is None or (desired.generation == endpoint.generation == endpoint.applied_generation):
        return None
    return desired.generation


def _swap(look: Look, after: RolloutState, action: Action) -> bool:
    at = datetime.fromtimestamp(look.seen.now, UTC)
    started = after.step_started_at
    changes: dict[str, Any] = {
        "phase": after.phase.value,
        "step": after.step,
        "revision": after.revision,
        "weight_bp": after.weight_bp,
        "mirror_bp": after.mirror_bp,
        "memo": after.memo.to_json(),
        "reason": action.reason,
        "phase_started_at": at,
        "step_started_at": None if started is None else datetime.fromtimestamp(started, UTC),
        "due_at": at,
        **look_is_good(look.rollout),
    }
    if look.seen.request is None:
        # While it goes back nothing is judged: what was found before is the cause, and stays on the page.
        changes["findings"] = findings_json(look.state, look.seen) or look.rollout.findings
    if look.state.phase is Phase.PENDING:
        changes["stable_version_id"] = look.rollout.endpoint.stable_version_id or look.rollout.stable_version_id
        changes["started_at"] = at
    if after.phase in TERMINAL:
        changes["finished_at"] = at
    if isinstance(action, Finish) and is_kept_warm(after):
        changes["warm_until"] = at + timedelta(seconds=after.plan.keep_warm_seconds)
    row = Rollout.objects.filter(pk=look.state.id, phase=look.state.phase.value, revision=look.state.revision)
    return row.update(**changes) == 1


def _stolen(look: Look, holder: str) -> int:
    epoch = lease_take(look.rollout.endpoint_id, holder=holder, steal=True)
    if epoch is None:
        raise Conflict("endpoint_moved", f"Endpoint {look.state.endpoint} is gone.")
    return epoch


RETURNING = frozenset({Phase.ROLLING_BACK, Phase.ROLLED_BACK, Phase.ABORTED, Phase.FAILED})
"""Traffic goes back to stable: at the target this wins over whoever changed the route meanwhile."""


def _desire(
    look: Look, after: RolloutState, action: Action, experiment: Experiment | None, *, actor: Actor, epoch: int | None
) -> EndpointPlan | None:
    wish = wanted(after)
    if wish is None or (look.state.phase is Phase.PENDING and after.phase in TERMINAL):
        return None
    desired = endpoint_desire(
        actor=actor,
        endpoint_id=look.rollout.endpoint_id,
        variants=_variants(look, wish),
        weights_bp=wish.weights_bp,
        mirror=wish.mirror,
        failover_to=wish.failover_to,
        arms=arms_of(experiment, wish.arms),
        epoch=epoch,
        reason=action.reason,
        stable_version_id=_stable_version(look, action),
        rollout_id=after.id,
        is_return=after.phase in RETURNING,
    )
    periods = {"period": desired.route.period}
    if look.state.phase is Phase.PENDING:
        periods["first_period"] = desired.route.period
    Rollout.objects.filter(pk=after.id).update(**periods)
    return desired


def _variants(look: Look, wish: Wanted) -> list[VariantSpec]:
    """Variants that run already stay as they are but for their role; the candidate copies stable's size and limits."""
    running = look.row.desired
    known = {spec.key: spec for spec in running.variants} if running else {}
    stable = known.get(look.state.stable)
    stable_row = look.rollout.stable_version
    if look.state.phase is Phase.PENDING and look.rollout.endpoint.stable_version is not None:
        stable_row = look.rollout.endpoint.stable_version
    rows = {look.state.stable: stable_row, look.state.candidate: look.rollout.candidate_version}
    specs = []
    for key, role in wish.roles.items():
        spec = known.get(key) or variant_beside(rows[key], stable)
        specs.append(replace(spec, role=role))
    return specs


def _stable_version(look: Look, action: Action) -> str | None:
    """Where the stable pointer goes; it moves with the promotion and back with the rollback of one."""
    match action:
        case Promote() | Finish():
            return look.rollout.candidate_version_id
        case RollBack() | Supersede() if look.state.phase is Phase.PROMOTING:
            return look.rollout.stable_version_id
        case _:
            return None


def _store(
    look: Look, after: RolloutState, action: Action, actor: Actor, desired: EndpointPlan | None, epoch: int
) -> None:
    before, rollout = look.state, look.rollout
    generation = desired.generation if desired else rollout.endpoint.generation
    Transition.objects.create(
        rollout_id=before.id,
        revision=after.revision,
        from_phase=before.phase.value,
        to_phase=after.phase.value,
        action=type(action).__name__,
        reason=action.reason,
        step=after.step,
        weight_bp=after.weight_bp,
        generation=generation,
        epoch=epoch,
        actor_label=actor.label,
        state=canonical_json(before.to_json()),
        seen=canonical_json(look.seen.to_json()),
        decision=canonical_json(action_json(action)),
        code_hash=code_hash(),
        at=datetime.fromtimestamp(look.seen.now, UTC),
    )
    rollout_publish(before.id, rollout.endpoint_id, after.revision, rollout.endpoint.revision + 1)
    enqueue_task("rollouts.tick", rollout_id=before.id)
    for other in _waiting_behind(before, after, rollout):
        enqueue_task("rollouts.tick", rollout_id=other)
    event_record(
        actor=actor,
        verb="rollout.transitioned",
        subject_kind="rollout",
        subject_id=before.id,
        subject_label=f"{before.endpoint} to {before.candidate_version}",
        detail={
            "action": type(action).__name__,
            "from": before.phase.value,
            "to": after.phase.value,
            "reason": action.reason,
            "step": after.step,
            "weight_bp": after.weight_bp,
            "revision": after.revision,
        },
    )


def rollout_publish(rollout_id: str, endpoint_id: str, revision: int, endpoint_revision: int) -> None:
    """Tell open pages that this rollout moved; inside the transaction that moved it."""
    endpoint = {"id": endpoint_id, "revision": endpoint_revision}
    publish_many(
        [
            (f"rollout:{rollout_id}", {"id": rollout_id, "revision": revision}),
            (f"endpoint:{endpoint_id}", endpoint),
            ("fleet", endpoint),
        ]
    )


def _waiting_behind(before: RolloutState, after: RolloutState, rollout: Rollout) -> list[str]:
    if after.phase not in TERMINAL:
        return []
    waiting = Rollout.objects.filter(endpoint_id=rollout.endpoint_id, phase=Phase.PENDING.value).exclude(pk=before.id)
    return list(waiting.order_by("created_at").values_list("pk", flat=True)[:1])


def findings_json(before: RolloutState, seen: Seen) -> list[dict[str, object]]:
    """The findings as stored in the row and shown: verdict, reason, evidence."""
    return [
        {"verdict": found.verdict.value, "reason": found.reason, "evidence": dict(found.evidence)}
        for found in findings(before, seen)
    ]
