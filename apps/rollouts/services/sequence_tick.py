"""One look at a sequence after the other: see, decide, record, act. A crash between any two is repaired by the next.

What is recorded starts at most one rollout, in the same transaction. Commands for rollouts that are under way are given
outside of it, each in a transaction of its own: they are given again while the rollout's own log does not show them.
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import structlog
from django.db import connection, transaction

from apps.kernel.clock import now
from apps.kernel.errors import DomainError
from apps.kernel.services.outbox import publish_live
from apps.rollouts.domain.sequence import (
    SEQUENCE_ACTIVE,
    Adopt,
    Hold,
    Leave,
    Obstacle,
    Order,
    Return,
    SequenceAction,
    SequenceMemo,
    SequencePhase,
    Start,
)
from apps.rollouts.domain.sequence_decide import sequence_decide
from apps.rollouts.models import Rollout, RolloutSequence, SequenceMember
from apps.rollouts.services.claim import OUTAGES
from apps.rollouts.services.faults import boundary
from apps.rollouts.services.lifecycle import command_plan, rollout_command
from apps.rollouts.services.sequence_look import SequenceLook, sequence_actor, sequence_look
from apps.rollouts.services.sequence_members import member_plan, member_start
from apps.rollouts.services.sequence_record import sequence_record

log = structlog.get_logger(__name__)

SOON, LATER, REFUSED_LATER = 2, 5, 30
"""Seconds until the next look: under way; when only a person can go on; when a target refused a start."""
MAX_LOOKS = 50
"""Looks at one sequence in a row: each that moved something is followed by another at once."""
_WITHOUT_DIGITS = str.maketrans("", "", "0123456789")
_SLOW = [SequencePhase.PAUSED.value, SequencePhase.WAITING.value, SequencePhase.STOPPED.value]
_CLAIM = """
    UPDATE rollouts_rolloutsequence SET due_at = %(now)s + make_interval(secs =>
           CASE WHEN look_error <> '' OR phase = ANY(%(slow)s) THEN %(later)s ELSE %(soon)s END)
     WHERE id IN (SELECT id FROM rollouts_rolloutsequence WHERE phase = ANY(%(active)s) AND due_at <= %(now)s
                   ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED)
 RETURNING id
"""


def sequences_due(limit: int = 1_000, seconds: float = 40.0) -> int:
    """Look at every sequence that is due, one after the other; how many. Not in a transaction."""
    looked, ends = 0, time.monotonic() + seconds
    while looked < limit and time.monotonic() < ends:
        found = _claim()
        boundary("after_claim")
        if found is None:
            break
        sequence_tick(found)
        looked += 1
    return looked


def sequence_tick(sequence_id: str) -> SequenceAction | None:
    """Look at one sequence until nothing more is to be done now; the last thing decided, None when it is unknown.

    One that cannot be looked at says so in its row and stops no other. Not in a transaction.
    """
    action: SequenceAction | None = None
    for _ in range(MAX_LOOKS):
        try:
            row = RolloutSequence.objects.select_related("candidate_version__model").filter(pk=sequence_id).first()
            if row is None or row.phase not in SEQUENCE_ACTIVE:
                return action
            action = _tick(sequence_look(row))
        except OUTAGES:
            raise
        except Exception as error:
            log.exception("sequence_look_failed", sequence=sequence_id)
            _look_failed(sequence_id, error)
            return None
        if isinstance(action, Hold):
            return action
    return action


def _claim() -> str | None:
    values: dict[str, Any] = {
        "now": now(),
        "slow": _SLOW,
        "active": [phase.value for phase in SEQUENCE_ACTIVE],
        "later": LATER,
        "soon": SOON,
    }
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_CLAIM, values)
        row = cursor.fetchone()
        return str(row[0]) if row else None


def _tick(look: SequenceLook) -> SequenceAction:
    boundary("after_observe")
    action = sequence_decide(look.state, look.seen)
    boundary("after_decide")
    match action:
        case Hold():
            _hold(look, action)
        case Start(_, member):
            return _start(look, action, member)
        case Return(_, member):
            return _return(look, action, member)
        case Adopt(_, member, rollout):
            sequence_record(look, action, effect=lambda: _link(look.members[member], rollout=rollout))
        case Leave(reason, member):
            sequence_record(look, action, effect=lambda: _link(look.members[member], left=reason))
        case _:
            sequence_record(look, action)
    boundary("after_record")
    return action


def _start(look: SequenceLook, action: Start, member_id: str) -> SequenceAction:
    """Plan the member afresh, with its artifact and its target looked at; begin it as it was pinned, or say why not."""
    member = look.members[member_id]
    planned, obstacle = member_plan(sequence_actor(look.sequence), look.sequence, member)
    if planned is None or obstacle is not None:
        return _refused(look, member_id, obstacle or Obstacle("it cannot be planned", is_passing=False))
    try:
        sequence_record(look, action, effect=lambda: member_start(look.sequence, member, planned))
    except DomainError as error:  # the endpoint became busy, or its version was withdrawn, between plan and start
        return _refused(look, member_id, Obstacle(error.detail, is_passing=True))
    boundary("after_record")
    return action


def _refused(look: SequenceLook, member_id: str, obstacle: Obstacle) -> SequenceAction:
    """Decide again, now that it is known that this member cannot begin; ask its target again after a while."""
    seen = look.seen.with_obstacle(member_id, obstacle)
    again = replace(look, seen=seen)
    action = sequence_decide(look.state, seen)
    if isinstance(action, Start):
        return _start(again, action, action.member)
    if isinstance(action, Hold):
        _hold(again, action, seconds=REFUSED_LATER)
    else:
        sequence_record(again, action)
    return action


def _return(look: SequenceLook, action: Return, member_id: str) -> SequenceAction:
    """The version before comes back by a rollout of its own."""
    member, actor = look.members[member_id], sequence_actor(look.sequence)
    rollout_id = str(member.rollout_id)
    try:
        planned = command_plan(actor=actor, rollout_id=rollout_id, command="roll_back")

        def begin() -> None:
            back = rollout_command(
                actor=actor, rollout_id=rollout_id, command="roll_back", reason=look.state.memo.cause, planned=planned
            )
            _link(member, back=back.pk)

        sequence_record(look, action, effect=begin)
    except DomainError as error:
        log.warning("sequence_return_refused", sequence=look.sequence.pk, code=error.code, detail=error.detail)
        if error.is_retryable:
            hold = Hold(f"{member.endpoint.name} cannot go back yet: {error.detail}")
            _hold(look, hold, seconds=LATER)
            return hold
        why = error.detail
        seen = look.seen.with_obstacle(member_id, Obstacle(why, is_passing=False))
        left = sequence_decide(look.state, seen)
        sequence_record(replace(look, seen=seen), left, effect=lambda: _link(member, left=why))
        return left
    boundary("after_record")
    return action


def _link(member: SequenceMember, *, rollout: str = "", back: str = "", left: str = "") -> None:
    changes = {name: value for name, value in (("rollout_id", rollout), ("back_id", back), ("left", left)) if value}
    SequenceMember.objects.filter(pk=member.pk).update(**changes)


def _hold(look: SequenceLook, action: Hold, *, seconds: int = 0) -> None:
    """Give the orders; write the reason when it is news."""
    for order in action.orders:
        _give(look, order)
    boundary("after_apply")
    row, state = look.sequence, look.state
    changes: dict[str, Any] = {}
    if action.reason.translate(_WITHOUT_DIGITS) != row.reason.translate(_WITHOUT_DIGITS):  # a ticking clock is no news
        changes["reason"] = action.reason
    if row.look_error:
        changes["look_error"] = ""
    if state.memo.to_json() != SequenceMemo.from_json(row.memo).to_json():
        changes["memo"] = state.memo.to_json()
    if seconds:
        changes["due_at"] = now() + timedelta(seconds=seconds)
    if not changes:
        return
    with transaction.atomic():
        same = RolloutSequence.objects.filter(pk=row.pk, phase=state.phase.value, revision=state.revision)
        if same.update(**changes) and "reason" in changes:
            publish_live(f"sequence:{row.pk}", id=row.pk, revision=row.revision)


def _give(look: SequenceLook, order: Order) -> None:
    """A rollout that moved on meanwhile refuses; the next look sees where it is."""
    rollout = Rollout.objects.filter(pk=order.rollout).first()
    if rollout is None:
        return
    try:
        rollout_command(
            actor=sequence_actor(look.sequence),
            rollout_id=rollout.pk,
            command=order.command,
            expected_revision=rollout.revision,
            expected_step=rollout.step,
            reason=order.reason[:500],
        )
    except DomainError as error:
        log.info("sequence_order_refused", rollout=rollout.pk, command=order.command, code=error.code)
    boundary("after_apply")


def _look_failed(sequence_id: str, error: Exception) -> None:
    sentence = f"{type(error).__name__}: {error}"[:500].replace("\x00", "")
    RolloutSequence.objects.filter(pk=sequence_id).update(look_error=sentence, due_at=now() + timedelta(seconds=LATER))
