"""Starting rollouts and commanding them. One door for pages, API, CLI and CI."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from django.db import connection, transaction

from apps.audit.services.record import event_record
from apps.kernel.actor import SYSTEM, Actor
from apps.kernel.clock import now
from apps.kernel.errors import Conflict, InvalidInput, PolicyRefused, Unavailable
from apps.kernel.services.outbox import enqueue_task
from apps.rollouts.domain.commands import refusal_of
from apps.rollouts.domain.decide import decide
from apps.rollouts.domain.machine import ACTIVE, TERMINAL, Hold, Phase, word_of
from apps.rollouts.domain.plan import GateSpec, Plan, Step
from apps.rollouts.domain.state import Command, Request
from apps.rollouts.domain.strategies import STANDARD
from apps.rollouts.models import Rollout
from apps.rollouts.selectors import rollout_get
from apps.rollouts.services.claim import OUTAGES
from apps.rollouts.services.failed import command_keep, look_failed
from apps.rollouts.services.observe import Look, rollouts_look
from apps.rollouts.services.plan import RolloutPlan, plan_expect, plan_refuse, rollout_plan
from apps.rollouts.services.record import rollout_publish, transition_record
from apps.rollouts.services.rows import rollouts_read
from apps.rollouts.services.scope import rollout_require
from apps.targets.services.scope import endpoint_require

SUPERSEDE = ("reject", "queue", "replace")
SAFE = frozenset({Command.ABORT, Command.ROLL_BACK, Command.SUPERSEDE})
COMMANDS = frozenset(set(Command) - {Command.SUPERSEDE})
ATTEMPTS = 20
"""Rounds of compare-and-swap before giving up; each lost round means that somebody else moved this very rollout."""


def rollout_start(
    *,
    actor: Actor,
    endpoint_id: str,
    version_id: str,
    strategy: str,
    profile: str = STANDARD,
    steps: Sequence[Step] | None = None,
    guardrails: Sequence[GateSpec] | None = None,
    expected_plan_hash: str | None = None,
    supersede: str = "reject",
    note: str = "",
    approval: Step | None = None,
    experiment: Step | None = None,
    keep_warm_seconds: int | None = None,
    planned: RolloutPlan | None = None,
    promotion_id: str = "",
    people: Collection[str] = (),
) -> Rollout:
    """Plan, refuse or accept; the rollout begins with its first tick. Not in a transaction (reads the artifact), unless
    ``planned`` brings what ``rollout_plan`` made of the same arguments a moment ago. ``people``: ids of those who asked
    for it where ``actor`` is the system; they cannot approve its steps. ``promotion_id``: the request that it brings.

    Raises NotFound, Forbidden (``rollout.start`` in the endpoint's team and environment),
    InvalidInput (fields of the plan), PolicyRefused, Conflict ``endpoint_busy`` and ``plan_changed``.
    """
    if supersede not in SUPERSEDE:
        raise InvalidInput.at("/supersede", "unknown", f"{supersede!r} is none of {', '.join(SUPERSEDE)}.")
    endpoint_require(actor, "rollout.start", endpoint_id)
    planned = planned or rollout_plan(
        actor=actor,
        endpoint_id=endpoint_id,
        version_id=version_id,
        strategy=strategy,
        profile=profile,
        steps=steps,
        guardrails=guardrails,
        supersede=supersede,
        approval=approval,
        experiment=experiment,
        keep_warm_seconds=keep_warm_seconds,
    )
    plan_refuse(planned)
    starters = starters_of(actor, planned.plan, people)
    plan_expect(planned.plan_hash, expected_plan_hash)
    return _begin(actor, planned, supersede, note, starters, promotion_id)


def _begin(
    actor: Actor,
    planned: RolloutPlan,
    supersede: str,
    note: str,
    starters: list[str],
    promotion_id: str = "",
    retry_of: Rollout | None = None,
) -> Rollout:
    """``retry_of``: what this is a new attempt of. The caller has refused a plan that blocks."""
    with transaction.atomic():
        _one_at_a_time(planned.endpoint.pk)
        rollout = _create(actor, planned, note, retry_of, starters, promotion_id)
        _make_way(actor, rollout, supersede)
    return rollout_get(rollout.pk)


def rollout_command(
    *,
    actor: Actor,
    rollout_id: str,
    command: str,
    expected_revision: int | None = None,
    expected_step: int | None = None,
    reason: str = "",
    planned: RolloutPlan | None = None,
) -> Rollout:
    """Carry out pause, resume, promote, abort, roll_back or retry; returns the rollout as it is then.

    ``retry``, and ``roll_back`` of a promoted rollout, return a new one. abort and roll_back look at no revision,
    steal the lease and are repeated until they win. ``planned``: what ``command_plan`` made, for a caller who is in a
    transaction by now. Raises NotFound, InvalidInput, Conflict (``stale_revision`` with
    the current revision, step and phase; the phase's own refusals), PolicyRefused.
    """
    rollout = rollout_get(rollout_id, actor)
    if command not in {*COMMANDS, "retry"}:
        raise InvalidInput.at("/command", "unknown_command", f"{command!r} is no command of a rollout.")
    rollout_require(actor, f"rollout.{command}", rollout)
    if command == "retry":
        _check_fresh(rollout, expected_revision, expected_step)
        return rollout_retry(actor=actor, rollout=rollout, note=reason, planned=planned)
    asked = Command(command)
    if asked is Command.ROLL_BACK and rollout.phase == Phase.PROMOTED:
        return _roll_back_promoted(actor, rollout, reason, planned)
    request = Request(asked, actor.label, reason)
    if asked not in SAFE:
        _require(expected_revision, expected_step)
        _check_fresh(rollout, expected_revision, expected_step)
        if asked is Command.PROMOTE and not reason.strip():
            raise InvalidInput.at("/reason", "required", "Promoting skips what is left of the plan: say why.")
    _carry_out(actor, rollout_id, request, expected_revision, expected_step)
    return rollout_get(rollout_id)


def command_plan(*, actor: Actor, rollout_id: str, command: str) -> RolloutPlan | None:
    """The plan of the new rollout that ``command`` would start, None where it starts none.

    Reads the artifact, so it runs before the transaction of ``rollout_command``, which then reads nothing. Raises
    NotFound.
    """
    rollout = rollout_get(rollout_id, actor)
    if command == "retry" and _can_retry(rollout):
        return _plan_again(actor, rollout)
    if command == Command.ROLL_BACK and rollout.phase == Phase.PROMOTED:
        return rollout_plan(actor=SYSTEM, has_preflight=False, **_way_back(rollout))
    return None


def rollout_retry(*, actor: Actor, rollout: Rollout, note: str = "", planned: RolloutPlan | None = None) -> Rollout:
    """A new attempt with the same plan, counted from zero. Raises Conflict unless the old one ended without success."""
    if not _can_retry(rollout):
        raise Conflict("cannot_retry", f"Nothing to retry while {word_of(rollout.phase)}.", extra=_where(rollout))
    planned = planned or _plan_again(actor, rollout)
    plan_refuse(planned)
    starters = starters_of(actor, planned.plan)
    return _begin(actor, planned, "reject", note or rollout.note, starters, rollout.promotion_id, retry_of=rollout)


def _can_retry(rollout: Rollout) -> bool:
    return rollout.phase in TERMINAL and rollout.phase != Phase.PROMOTED


def _plan_again(actor: Actor, rollout: Rollout) -> RolloutPlan:
    plan = Plan.from_json(rollout.plan)
    planned = rollout_plan(
        actor=actor,
        endpoint_id=rollout.endpoint_id,
        version_id=rollout.candidate_version_id,
        strategy=plan.strategy,
        profile=plan.profile or STANDARD,
        steps=plan.steps,
        guardrails=plan.guardrails,
    )
    return replace(planned, plan=plan)


def _way_back(rollout: Rollout) -> dict[str, Any]:
    return {
        "endpoint_id": rollout.endpoint_id,
        "version_id": rollout.stable_version_id,
        "strategy": "blue_green",
        "steps": (Step.full(),),
        "guardrails": (),
        "supersede": "replace",
        "keep_warm_seconds": 0,  # what is left behind is the version that nobody wants
    }


def _roll_back_promoted(actor: Actor, rollout: Rollout, reason: str, planned: RolloutPlan | None) -> Rollout:
    """Back to the version before, as a rollout of its own. While that is kept warm it is ready and the route moves at
    once; later its processes are gone and must come up first."""
    endpoint = rollout.endpoint
    if endpoint.stable_version_id != rollout.candidate_version_id:
        now_stable = endpoint.stable_version.semver if endpoint.stable_version else "nothing"
        raise Conflict(
            "not_stable_any_more", f"{endpoint.name} serves {now_stable} by now; start a rollout from there.",
            extra=_where(rollout),
        )  # fmt: skip
    note = reason or f"back from {rollout.candidate_version.semver}"
    planned = planned or rollout_plan(actor=SYSTEM, has_preflight=False, **_way_back(rollout))
    plan_refuse(planned)
    return _begin(actor, planned, "replace", note, starters_of(actor, planned.plan))


def _carry_out(
    actor: Actor, rollout_id: str, request: Request, expected_revision: int | None, expected_step: int | None
) -> None:
    is_safe = request.command in SAFE
    for _ in range(ATTEMPTS if is_safe else 1):
        try:
            look = _look(rollout_id, request)
        except OUTAGES:
            raise
        except Exception as error:
            if not is_safe:
                raise _unseen(look_failed(rollout_id, error)) from error
            command_keep(actor, rollout_id, request, error)
            return
        if not is_safe:
            _check_fresh(look.rollout, expected_revision, expected_step)
        refusal = refusal_of(look.state, request.command)
        if refusal is not None:
            raise refusal
        action = decide(look.state, look.seen)
        if isinstance(action, Hold):
            if is_safe:
                return  # it is on its way back already: what was asked for is happening
            raise PolicyRefused(f"{request.command.value}_refused", action.reason, extra=_where(look.rollout))
        holder = f"command/{secrets.token_hex(8)}" if is_safe and look.state.phase is not Phase.PENDING else ""
        if transition_record(look, action, actor=actor, steal_as=holder) is not None:
            return
    raise _stale(rollout_get(rollout_id))


def _unseen(sentence: str) -> Unavailable:
    return Unavailable(
        "look_failed",
        f"The engine failed at this rollout ({sentence}); nothing was changed. Abort and roll back are possible: they "
        "are kept until it can look again.",
        is_retryable=True,
    )


def _look(rollout_id: str, request: Request) -> Look:
    look = rollouts_look(rollouts_read([rollout_id]))[0]
    return replace(look, seen=look.seen.with_request(request))


def starters_of(actor: Actor, plan: Plan, people: Collection[str] = ()) -> list[str]:
    """Who may not approve: the people behind the start. Raises PolicyRefused when nobody is known and somebody must."""
    found = sorted({*people, *actor.people, *([actor.id] if actor.kind == "user" else [])})
    if not found and actor.kind != "system" and any(step.asks_people for step in plan.steps):
        raise PolicyRefused(
            "requester_unknown",
            "Nobody who starts a rollout approves it, and nobody is known behind this key: give its account an owner.",
        )
    return found


def _create(
    actor: Actor, planned: RolloutPlan, note: str, retry_of: Rollout | None, starters: list[str], promotion_id: str
) -> Rollout:
    stable = planned.stable
    if stable is None:
        raise PolicyRefused("no_stable", f"{planned.endpoint.name} serves nothing that could be replaced.")
    at = now()
    rollout = Rollout.objects.create(
        endpoint=planned.endpoint,
        stable_version=stable,
        candidate_version=planned.candidate,
        strategy=planned.plan.strategy.value,
        plan=planned.plan.to_json(),
        plan_hash=planned.plan_hash,
        retry_of=retry_of,
        attempt=retry_of.attempt + 1 if retry_of else 1,
        note=note,
        created_by=actor.label,
        starters=starters,
        promotion_id=promotion_id,
        created_at=at,
        phase_started_at=at,
        due_at=at,
    )
    rollout_publish(rollout.pk, planned.endpoint.pk, 1, planned.endpoint.revision)
    enqueue_task("rollouts.tick", rollout_id=rollout.pk)
    return rollout


def starts_lock(endpoint_ids: Collection[str]) -> None:
    """Take every lock that starting at these endpoints needs, for a caller who starts several in one transaction: after
    the first start the audit chain is locked, and whoever waits for it may hold one of these."""
    for endpoint_id in sorted(endpoint_ids):
        _one_at_a_time(endpoint_id)
    busy = Rollout.objects.select_for_update().filter(
        endpoint_id__in=list(endpoint_ids), phase__in=[phase.value for phase in ACTIVE]
    )
    list(busy.order_by("created_at", "pk").values_list("pk", flat=True))


def _one_at_a_time(endpoint_id: str) -> None:
    """Starts at one endpoint queue up here until the commit: two must not both find it idle."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 11))", [endpoint_id])


def _make_way(actor: Actor, rollout: Rollout, supersede: str) -> None:
    """Refuse, queue or replace, with the endpoint's other rollouts locked.

    Audited here, last: the audit chain is locked from the first entry to the commit.
    """
    others = Rollout.objects.select_for_update().filter(
        endpoint_id=rollout.endpoint_id, phase__in=[phase.value for phase in ACTIVE]
    )
    busy = [other for other in others.order_by("created_at", "pk") if other.pk != rollout.pk]
    if busy and supersede == "reject":
        raise Conflict(
            "endpoint_busy",
            f"{rollout.endpoint.name} is busy with {busy[0].pk} ({busy[0].phase}): wait, queue or replace.",
            extra={"rollout": busy[0].pk, "phase": busy[0].phase},
        )
    twin = next((other for other in busy if _is_same(other, rollout)), None)
    if supersede == "queue" and twin is not None:
        raise Conflict(
            "already_queued",
            f"{twin.pk} waits at {rollout.endpoint.name} with this very plan already: watch it, or abort it first.",
            extra={"rollout": twin.pk, "phase": twin.phase},
        )
    if supersede == "replace":
        for other in busy:
            _carry_out(actor, other.pk, Request(Command.SUPERSEDE, actor.label, rollout.pk), None, None)
            Rollout.objects.filter(pk=rollout.pk).update(supersedes=other)
    event_record(
        actor=actor,
        verb="rollout.created",
        subject_kind="rollout",
        subject_id=rollout.pk,
        subject_label=f"{rollout.endpoint.name} to {rollout.candidate_version.semver}",
        detail={
            "plan_hash": rollout.plan_hash,
            "strategy": rollout.strategy,
            "from": rollout.stable_version.semver,
            "to": rollout.candidate_version.semver,
            "artifact_digest": rollout.candidate_version.artifact_digest,
            "supersede": supersede,
            "note": rollout.note,
            **({"promotion": rollout.promotion_id} if rollout.promotion_id else {}),
        },
    )


def _is_same(waiting: Rollout, rollout: Rollout) -> bool:
    """Whether ``waiting`` is queued already and would do what ``rollout`` would: the hash covers plan and versions."""
    same = (rollout.candidate_version_id, rollout.plan_hash)
    return waiting.phase == Phase.PENDING and (waiting.candidate_version_id, waiting.plan_hash) == same


def _require(expected_revision: int | None, expected_step: int | None) -> None:
    for name, value in (("expected_revision", expected_revision), ("expected_step", expected_step)):
        if value is None:
            raise InvalidInput.at(f"/{name}", "required", f"Say which {name.split('_')[1]} you saw.")


def _check_fresh(rollout: Rollout, expected_revision: int | None, expected_step: int | None) -> None:
    if expected_revision not in (None, rollout.revision) or expected_step not in (None, rollout.step):
        raise _stale(rollout)


def _stale(rollout: Rollout) -> Conflict:
    where = f"revision {rollout.revision}, step {rollout.step + 1}, {rollout.phase}"
    return Conflict(
        "stale_revision", f"This rollout moved on meanwhile: it is at {where}. Look again.", extra=_where(rollout)
    )


def _where(rollout: Rollout) -> dict[str, object]:
    return {"revision": rollout.revision, "step": rollout.step, "phase": rollout.phase}
