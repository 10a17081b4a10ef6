"""Reads of rollouts and their history."""

from __future__ import annotations

from django.db import connection
from django.db.models import Count, Exists, OuterRef, Prefetch, Q, QuerySet

from apps.accounts.domain.commands import AllowedCommand, command_allowed
from apps.accounts.services.access import scope_q
from apps.kernel.actor import Actor
from apps.kernel.errors import NotFound
from apps.kernel.verdicts import Finding, Verdict
from apps.rollouts.domain.commands import refusal_of
from apps.rollouts.domain.machine import ACTIVE, Phase, word_of
from apps.rollouts.domain.plan import Plan
from apps.rollouts.domain.sequence import SequenceCommand, SequencePhase, SequenceState
from apps.rollouts.domain.sequence_decide import sequence_refusal
from apps.rollouts.domain.state import Command, Memo, RolloutState
from apps.rollouts.domain.waves import SequencePlan
from apps.rollouts.models import Rollout, RolloutSequence, SequenceMember, SequenceTransition, Transition

RELATED = (
    "endpoint__target",
    "endpoint__model",
    "endpoint__stable_version__model",
    "stable_version__model",
    "candidate_version__model",
)
PLACE = {"team": "endpoint__team", "environment": "endpoint__target__environment"}
"""Lookups from a rollout, or a member of a sequence, to where rights hold."""
_ACTIVE = [phase.value for phase in ACTIVE]
_MARKS = """
    SELECT id, revision, step, weight_bp, acknowledged_at, memo ->> 'review_id', phase
      FROM rollouts_rollout
     WHERE endpoint_id = %(endpoint)s AND (phase = ANY(%(active)s) OR id = (
           SELECT id FROM rollouts_rollout WHERE endpoint_id = %(endpoint)s ORDER BY created_at DESC, id DESC LIMIT 1))
     ORDER BY created_at, id
"""
WENT_BACK = frozenset({Phase.ROLLED_BACK, Phase.FAILED, Phase.ABORTED})
"""Ends that need somebody: what was to be delivered is not. A superseded one has its successor."""


def rollout_get(rollout_id: str, actor: Actor | None = None) -> Rollout:
    """With endpoint, target and versions, one query; with ``actor`` only one that they may see. Raises NotFound."""
    rollout = rollout_list(actor).filter(pk=rollout_id).first()
    if rollout is None:
        raise NotFound("rollout_not_found", f"There is no rollout {rollout_id!r}.")
    return rollout


def rollout_list(
    actor: Actor | None = None,
    *,
    endpoint_id: str | None = None,
    phase: str | None = None,
    is_active: bool | None = None,
    strategy: str | None = None,
    candidate_version_id: str | None = None,
) -> QuerySet[Rollout]:
    """Newest first, with endpoint, target and versions; with ``actor`` those that they may see.

    ``phase`` may name several, separated by commas.
    """
    found = Rollout.objects.select_related(*RELATED).order_by("-created_at", "-pk")
    if actor is not None:
        found = found.filter(scope_q(actor, "rollout.read", **PLACE))
    if endpoint_id is not None:
        found = found.filter(endpoint_id=endpoint_id)
    if phase:
        found = found.filter(phase__in=phase.split(","))
    if is_active is not None:
        found = found.filter(phase__in=_ACTIVE) if is_active else found.exclude(phase__in=_ACTIVE)
    if strategy is not None:
        found = found.filter(strategy=strategy)
    if candidate_version_id is not None:
        found = found.filter(candidate_version_id=candidate_version_id)
    return found


def active_of(endpoint_id: str) -> Rollout | None:
    """The rollout that moves the endpoint now, else the oldest that waits for it, else None."""
    rows = Rollout.objects.select_related(*RELATED).filter(endpoint_id=endpoint_id, phase__in=_ACTIVE)
    found = list(rows.order_by("created_at", "pk"))
    moving = [rollout for rollout in found if rollout.phase != Phase.PENDING]
    return next(iter([*moving, *found]), None)


def rollout_marks(endpoint_id: str) -> list[tuple[object, ...]]:
    """Of the rollouts that move the endpoint, or wait for it, and of its newest one: what their commands depend on, the
    phase last. Other ones when any of that changes. One query, asked for each answer of every open page: as text, since
    Django takes eight times as long to write it as the database to answer."""
    with connection.cursor() as cursor:
        cursor.execute(_MARKS, {"endpoint": endpoint_id, "active": _ACTIVE})
        return list(cursor.fetchall())


def rollouts_unacknowledged(actor: Actor | None = None) -> QuerySet[Rollout]:
    """Rollouts that went back and need somebody, the newest end first, one query: nobody has acknowledged them, their
    endpoint is there, and no newer rollout of it has begun."""
    newer = Rollout.objects.filter(
        endpoint_id=OuterRef("endpoint_id"), created_at__gt=OuterRef("created_at"), started_at__isnull=False
    )
    found = rollout_list(actor, phase=",".join(sorted(WENT_BACK))).filter(
        ~Exists(newer), acknowledged_at=None, endpoint__removed_at=None
    )
    return found.order_by("-finished_at", "-pk")


def review_of(rollout: Rollout) -> str:
    """The id of the review that the rollout waits for; "" where it waits for none."""
    return str(rollout.memo.get("review_id", "")) if rollout.phase == Phase.WAITING else ""


def transitions_of(rollout_id: str) -> QuerySet[Transition]:
    """Oldest first."""
    return Transition.objects.filter(rollout_id=rollout_id).order_by("revision")


def sequence_get(sequence_id: str, actor: Actor | None = None) -> RolloutSequence:
    """With its version and members; with ``actor`` only one that they may see. Raises NotFound."""
    found = sequence_list(actor).filter(pk=sequence_id).first()
    if found is None:
        raise NotFound("sequence_not_found", f"There is no rollout sequence {sequence_id!r}.")
    return found


def sequence_list(actor: Actor | None = None) -> QuerySet[RolloutSequence]:
    """Newest first; with ``actor`` those of which they may see every endpoint: half of one would mislead."""
    found = RolloutSequence.objects.select_related("candidate_version__model").order_by("-created_at", "-pk")
    members = SequenceMember.objects.select_related("endpoint__target", "endpoint__stable_version", "rollout", "back")
    found = found.prefetch_related(Prefetch("members", members))
    if actor is None:
        return found
    mine = scope_q(actor, "rollout.read", **PLACE)
    hidden = SequenceMember.objects.filter(sequence=OuterRef("pk")).exclude(mine) if mine != Q() else None
    return found if hidden is None else found.exclude(Exists(hidden))


def sequence_of(rollout_id: str) -> SequenceMember | None:
    """The member that the rollout carries, or brings back; None for a rollout of its own."""
    rows = SequenceMember.objects.filter(Q(rollout=rollout_id) | Q(back=rollout_id))
    return rows.select_related("sequence").first()


def sequence_transitions_of(sequence_id: str) -> QuerySet[SequenceTransition]:
    """Oldest first."""
    return SequenceTransition.objects.filter(sequence_id=sequence_id).order_by("revision")


def sequence_commands(row: RolloutSequence) -> dict[str, str]:
    """Command -> why its phase does not allow it, "" where it does. Rights are the caller's to add."""
    phase, plan = SequencePhase(row.phase), SequencePlan.from_json(row.plan)
    state = SequenceState(row.pk, phase, row.wave, row.revision, plan, row.phase_started_at.timestamp())
    refusals = {command: sequence_refusal(state, command) for command in SequenceCommand}
    return {command.value: refusal.detail if refusal else "" for command, refusal in refusals.items()}


def allowed_commands(rollout: Rollout) -> list[AllowedCommand]:
    """Every command with whether the phase allows it and the sentence why not. Rights are the caller's to add."""
    found = []
    state = _phase_state(rollout)
    for command in Command:
        if command is Command.SUPERSEDE:
            continue
        refusal = refusal_of(state, command)
        if command is Command.ROLL_BACK and rollout.phase == Phase.PROMOTED:
            refusal = None  # starts a rollout back to the version before
        found.append(_allowed(command.value, refusal.detail if refusal else ""))
    can_retry = rollout.phase not in {*_ACTIVE, Phase.PROMOTED.value}
    reason = "" if can_retry else f"Nothing to retry while {word_of(rollout.phase)}."
    return [*found, _allowed("retry", reason), _allowed("acknowledge", _acknowledged(rollout))]


def _acknowledged(rollout: Rollout) -> str:
    """Why there is nothing to acknowledge; "" when there is."""
    if rollout.phase not in WENT_BACK:
        return f"Nothing to acknowledge while {word_of(rollout.phase)}."
    if rollout.acknowledged_at is None:
        return ""
    by = rollout.acknowledged_by
    return f"Acknowledged by {by}." if by else "It ended before acknowledgements were kept."


def engine_fault(rollout: Rollout) -> Finding | None:
    """Verdict ERROR when the newest look at an active rollout failed: the engine's fault, not the version's.

    Evidence: ``since`` (datetime of the first failure in a row), ``asked`` (a command kept meanwhile, or None).
    """
    if not rollout.look_error or rollout.phase not in _ACTIVE:
        return None
    sentence = f"the engine failed on this: {rollout.look_error}"
    return Finding(Verdict.ERROR, sentence, {"since": rollout.look_failed_at, "asked": rollout.asked})


def engine_faults(actor: Actor | None = None) -> list[Rollout]:
    """Active rollouts at which the engine fails now, longest first, with endpoint, target and versions; with ``actor``
    those that they may see."""
    rows = rollout_list(actor, is_active=True).exclude(look_error="")
    return list(rows.order_by("look_failed_at", "pk"))


def _allowed(command: str, reason: str) -> AllowedCommand:
    return command_allowed(command, f"rollout.{command}", reason)


def _phase_state(rollout: Rollout) -> RolloutState:
    """Enough of the state to ask what the phase allows."""
    return RolloutState(
        id=rollout.pk,
        endpoint="",
        phase=Phase(rollout.phase),
        step=rollout.step,
        revision=rollout.revision,
        plan=Plan.from_json(rollout.plan),
        stable="",
        candidate="",
        stable_version="",
        candidate_version="",
        weight_bp=rollout.weight_bp,
        mirror_bp=rollout.mirror_bp,
        phase_started_at=0.0,
        memo=Memo(),
    )


def rollout_counts() -> dict[str, int]:
    """How many rollouts there are in each phase that is not final; phases without one count 0."""
    counts = dict.fromkeys(sorted(phase.value for phase in ACTIVE), 0)
    rows = Rollout.objects.filter(phase__in=list(counts)).values_list("phase").annotate(count=Count("id")).order_by()
    return counts | dict(rows)
