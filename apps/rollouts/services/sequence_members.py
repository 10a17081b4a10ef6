"""One member of a sequence: planned afresh when its turn comes, begun exactly as it was pinned."""

from __future__ import annotations

from dataclasses import replace

from apps.kernel.actor import Actor
from apps.kernel.errors import DomainError, Unavailable
from apps.rollouts.domain.machine import TERMINAL, Phase
from apps.rollouts.domain.plan import Plan
from apps.rollouts.domain.sequence import Obstacle
from apps.rollouts.domain.strategies import STANDARD
from apps.rollouts.models import RolloutSequence, SequenceMember
from apps.rollouts.services.checks import Check
from apps.rollouts.services.lifecycle import rollout_retry, rollout_start
from apps.rollouts.services.plan import RolloutPlan, rollout_plan
from apps.rollouts.services.preflight import PREFLIGHT
from apps.rollouts.services.sequence_look import sequence_actor

PASSING = frozenset({"endpoint_busy", "target_unreachable", "frozen"})
"""Checks that speak about now and not about the plan: a later wave waits for them."""


def is_passing(check: Check) -> bool:
    """Whether what ``check`` says can change by itself; a full cluster may have room tomorrow."""
    return check.code in PASSING or check.code.startswith(PREFLIGHT)


def member_plan(
    actor: Actor, sequence: RolloutSequence, member: SequenceMember
) -> tuple[RolloutPlan | None, Obstacle | None]:
    """The pinned plan with today's checks, and what is in its way. Reads the artifact, asks the target."""
    pinned = Plan.from_json(member.plan)
    try:
        planned = rollout_plan(
            actor=actor,
            endpoint_id=member.endpoint_id,
            version_id=sequence.candidate_version_id,
            strategy=pinned.strategy,
            profile=pinned.profile or STANDARD,
            steps=pinned.steps,
            guardrails=pinned.guardrails,
        )
    except DomainError as error:
        return None, Obstacle(error.detail, is_passing=isinstance(error, Unavailable))
    if dict(planned.plan.extra) != dict(pinned.extra):
        return None, Obstacle("it is no longer what was planned: the versions there have changed", is_passing=False)
    blocks = planned.blocks
    hard = next((check for check in blocks if not is_passing(check)), None)
    frozen = next((check for check in planned.checks if check.code == "frozen"), None)
    found = hard or next(iter(blocks), None) or frozen
    return replace(planned, plan=pinned), Obstacle(found.detail, is_passing(found)) if found else None


def member_start(sequence: RolloutSequence, member: SequenceMember, planned: RolloutPlan) -> None:
    """Begin it, or a new attempt of it, and note which rollout it is; in the caller's transaction.

    Raises DomainError.
    """
    actor, note = sequence_actor(sequence), member_note(sequence, member)
    before = member.rollout
    if before is not None and before.phase in TERMINAL and before.phase != Phase.PROMOTED:
        fresh = rollout_retry(actor=actor, rollout=before, note=note, planned=planned)
    else:
        fresh = rollout_start(
            actor=actor,
            endpoint_id=member.endpoint_id,
            version_id=sequence.candidate_version_id,
            strategy=planned.plan.strategy,
            note=note,
            planned=planned,
            people=sequence.starters,
        )
    SequenceMember.objects.filter(pk=member.pk).update(rollout=fresh)


def member_note(sequence: RolloutSequence, member: SequenceMember) -> str:
    """What the rollout's page says about where it belongs."""
    said = f"wave {member.wave + 1} of sequence {sequence.pk}"
    return f"{said}; {sequence.note}" if sequence.note else said
