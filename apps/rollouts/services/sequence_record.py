"""The only writer of a sequence's phase: one transaction per decision, together with the rollout that it starts."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache

from django.db import transaction

from apps.audit.services.record import event_record
from apps.kernel.actor import SYSTEM, Actor
from apps.kernel.canonical import canonical_json, sha256_of
from apps.kernel.services.outbox import enqueue_task, publish_live
from apps.rollouts.domain import machine, sequence, sequence_watch, waves
from apps.rollouts.domain import sequence_decide as decide_module
from apps.rollouts.domain.sequence import SEQUENCE_TERMINAL, SequenceAction, SequenceState, sequence_action_json
from apps.rollouts.domain.sequence_decide import sequence_advance
from apps.rollouts.models import RolloutSequence, SequenceTransition
from apps.rollouts.services.sequence_approval import sequence_review_hold, sequence_review_void
from apps.rollouts.services.sequence_look import SequenceLook

DECIDING = (decide_module, machine, sequence, sequence_watch, waves)


@cache
def sequence_code_hash() -> str:
    """SHA-256 over the source of every module that takes part in a decision."""
    return sha256_of({module.__name__: inspect.getsource(module) for module in DECIDING})


def sequence_record(
    look: SequenceLook,
    action: SequenceAction,
    *,
    actor: Actor = SYSTEM,
    effect: Callable[[], None] | None = None,
) -> SequenceState | None:
    """Record ``action``, decided from ``look``; None when somebody else won and nothing was written.

    1. compare-and-swap of (id, phase, revision): zero rows, stop;
    2. ``effect``: rows that belong to it (a member's rollout begins); what it raises undoes everything;
    3. Transition with its evidence, outbox, audit event last (its chain is locked until the commit).
    Sequence, its review, then endpoints and rollouts, then the audit chain: nobody who holds one of the later waits for
    an earlier.
    """
    after = sequence_advance(look.state, action, look.seen.now)
    with transaction.atomic():
        if not _swap(look, after, action):
            return None
        sequence_review_hold(after)
        if effect is not None:
            effect()
        sequence_review_void(after, action.reason)
        _store(look, after, action, actor)
    return after


def _swap(look: SequenceLook, after: SequenceState, action: SequenceAction) -> bool:
    at = datetime.fromtimestamp(look.seen.now, UTC)
    before = look.state
    row = RolloutSequence.objects.filter(pk=before.id, phase=before.phase.value, revision=before.revision)
    return bool(
        row.update(
            phase=after.phase.value,
            wave=after.wave,
            revision=after.revision,
            memo=after.memo.to_json(),
            reason=action.reason,
            phase_started_at=datetime.fromtimestamp(after.phase_started_at, UTC),
            finished_at=at if after.phase in SEQUENCE_TERMINAL else None,
            due_at=at,
            look_error="",
        )
    )


def _store(look: SequenceLook, after: SequenceState, action: SequenceAction, actor: Actor) -> None:
    before = look.state
    SequenceTransition.objects.create(
        sequence_id=before.id,
        revision=after.revision,
        from_phase=before.phase.value,
        to_phase=after.phase.value,
        action=type(action).__name__,
        reason=action.reason,
        wave=after.wave,
        actor_label=actor.label,
        state=canonical_json(before.to_json()),
        seen=canonical_json(look.seen.to_json()),
        decision=canonical_json(sequence_action_json(action)),
        code_hash=sequence_code_hash(),
        at=datetime.fromtimestamp(look.seen.now, UTC),
    )
    publish_live(f"sequence:{before.id}", id=before.id, revision=after.revision)
    enqueue_task("rollouts.sequence_tick", sequence_id=before.id)
    event_record(
        actor=actor,
        verb="sequence.transitioned",
        subject_kind="sequence",
        subject_id=before.id,
        subject_label=sequence_title(look.sequence),
        detail={
            "action": type(action).__name__,
            "from": before.phase.value,
            "to": after.phase.value,
            "reason": action.reason,
            "wave": after.wave,
            "revision": after.revision,
        },
    )


def sequence_title(row: RolloutSequence) -> str:
    """ "late-arrival 1.1.0 to 3 endpoints"."""
    count = sum(len(wave["members"]) for wave in row.plan["waves"])
    version = row.candidate_version
    return f"{version.model.name} {version.semver} to {count} endpoint{'s' if count != 1 else ''}"
