"""One tick: observe, decide, record, reconcile. A crash between any two is repaired by the next tick."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog
from django.db import transaction

from apps.kernel.clock import now
from apps.kernel.errors import DomainError
from apps.kernel.services.outbox import enqueue_task, publish_live
from apps.rollouts.domain.decide import decide, verdicts
from apps.rollouts.domain.machine import TERMINAL, Action, Fail, Hold, RollBack, Settle, Supersede
from apps.rollouts.domain.probing import is_probe_due
from apps.rollouts.domain.state import Memo
from apps.rollouts.domain.unlooked import LATE_SECONDS
from apps.rollouts.models import Rollout
from apps.rollouts.services.claim import OUTAGES, claim_due, claims_missed
from apps.rollouts.services.experiment import experiment_ask
from apps.rollouts.services.failed import asked_request, look_failed
from apps.rollouts.services.faults import boundary
from apps.rollouts.services.observe import Look, rollouts_look
from apps.rollouts.services.record import findings_json, transition_record
from apps.rollouts.services.rows import look_is_good, rollouts_read
from apps.targets.services.freshness import targets_answered_at
from apps.targets.services.lease import lease_release, lease_take
from apps.targets.services.observe import endpoint_observe
from apps.targets.services.reconcile import endpoint_reconcile

log = structlog.get_logger(__name__)

CHUNK = 200
LEASE_SECONDS = 5.0
_WITHOUT_DIGITS = str.maketrans("", "", "0123456789")
_BACK = (RollBack, Supersede, Settle, Fail)


def tick_due(holder: str, limit: int = 5_000, seconds: float = 20.0) -> int:
    """Look at every rollout that is due, in chunks, until none is, ``limit`` is reached or ``seconds`` have passed.

    A claim moves ``due_at`` ahead, so that a worker that dies with a chunk delays it by a look and loses nothing.
    """
    looked, ends = 0, time.monotonic() + seconds
    while looked < limit and time.monotonic() < ends:
        claims = claim_due(min(CHUNK, limit - looked))
        boundary("after_claim")
        if not claims:
            break
        try:
            _tick_all([one for one, (is_failed, _) in claims.items() if not is_failed], holder)
            for one in (one for one, (is_failed, _) in claims.items() if is_failed):
                _tick_all([one], holder)  # apart: it must not make the others be read a second time
        except OUTAGES:
            claims_missed(claims)
            raise
        looked += len(claims)
    return looked


def rollout_tick(rollout_id: str, holder: str) -> Action | None:
    """Look at one rollout now; the action decided, None when it is unknown or has ended."""
    found = _tick_all([rollout_id], holder)
    return found[0] if found else None


def _tick_all(ids: Sequence[str], holder: str) -> list[Action]:
    """Look at each; one that cannot be looked at stops no other, and says so in its row.

    What is read for many at once fails for many at once: the halves are tried apart until the culprit is alone.
    """
    if not ids:
        return []
    try:
        looks = _looks(ids)
    except OUTAGES:
        raise
    except Exception as error:
        log.exception("look_failed", rollouts=len(ids), first=ids[0])
        if len(ids) == 1:
            look_failed(ids[0], error)
            return []
        middle = len(ids) // 2
        return [*_tick_all(ids[:middle], holder), *_tick_all(ids[middle:], holder)]
    boundary("after_observe")
    return [action for look in looks if (action := _tick_one(look, holder)) is not None]


def _looks(ids: Sequence[str]) -> list[Look]:
    _refresh(ids)
    looks = rollouts_look([row for row in rollouts_read(ids) if row.rollout.phase not in TERMINAL])
    return [asked_request(look) if look.rollout.asked else look for look in looks]


def _tick_one(look: Look, holder: str) -> Action | None:
    try:
        return _tick(look, holder)
    except OUTAGES:
        raise
    except Exception as error:
        log.exception("look_failed", rollouts=1, first=look.rollout.pk)
        look_failed(look.rollout.pk, error)
        return None


def _refresh(ids: Sequence[str]) -> None:
    """Ask the targets that nobody watches; what a watched one says is in the row already."""
    rows = list(Rollout.objects.filter(pk__in=ids).values_list("endpoint_id", "endpoint__target_id", "phase"))
    watched = targets_answered_at({target_id for _, target_id, _ in rows})
    for endpoint_id in {
        endpoint for endpoint, target, phase in rows if target not in watched and phase not in TERMINAL
    }:
        _guarded(endpoint_id, lambda endpoint_id=endpoint_id: endpoint_observe(endpoint_id))  # type: ignore[misc]


def _tick(look: Look, holder: str) -> Action:
    action = decide(look.state, look.seen)
    boundary("after_decide")
    if _is_old(look) and not isinstance(action, _BACK):
        # this worker stood still since, or is far behind: what it saw then moves nothing on
        return action if isinstance(action, Hold) else _tick_anew(look, holder)
    if isinstance(action, Hold):
        _hold(look, action, holder)
        return action
    rollout = look.rollout
    epoch = lease_take(rollout.endpoint_id, holder=holder, seconds=LEASE_SECONDS)
    boundary("after_lease")
    if epoch is None:
        return action  # another worker is at this endpoint; it, or the next tick, will do it
    recorded = transition_record(look, action, epoch=epoch)
    boundary("after_record")
    if recorded is None or recorded.generation is None:
        lease_release(rollout.endpoint_id, holder=holder, epoch=epoch)
        return action
    log.info("rollout_moved", rollout=rollout.pk, action=type(action).__name__, reason=action.reason)
    _guarded(rollout.endpoint_id, lambda: endpoint_reconcile(rollout.endpoint_id, holder=holder))
    boundary("after_apply")
    _guarded(rollout.endpoint_id, lambda: endpoint_observe(rollout.endpoint_id))
    boundary("after_store")
    return action


def _is_old(look: Look) -> bool:
    return now().timestamp() - look.seen.now > LATE_SECONDS


def _tick_anew(look: Look, holder: str) -> Action:
    """Look again and go on from there; what is old again, or has ended meanwhile, is left to the next claim."""
    looks = _looks([look.rollout.pk])
    if looks and not _is_old(looks[0]):
        return _tick(looks[0], holder)
    return Hold("it has ended, or this worker is too far behind to move it")


def _hold(look: Look, action: Hold, holder: str) -> None:
    """Write only what is news; mend what a crash between record and reconcile left undone."""
    rollout, endpoint = look.rollout, look.rollout.endpoint
    if endpoint.applied_generation != endpoint.generation and not endpoint.apply_error:
        _guarded(endpoint.pk, lambda: endpoint_reconcile(endpoint.pk, holder=holder))
    _guarded(endpoint.pk, lambda: experiment_ask(look))
    is_probing = is_probe_due(look.state, look.seen)
    memo = replace(look.state.memo, probed_at=look.seen.now) if is_probing else look.state.memo
    is_same = memo == look.row.memo
    is_news = (not is_same and _but_gaps(memo) != _but_gaps(look.row.memo)) or bool(look_is_good(rollout))
    judged = verdicts(look.state, look.seen)
    is_news |= bool(judged) and tuple(judged) != look.row.verdicts
    is_news |= _gist(action.reason) != _gist(rollout.reason)
    if not is_news and is_same:
        return
    found = findings_json(look.state, look.seen) or rollout.findings
    with transaction.atomic():
        row = Rollout.objects.filter(pk=rollout.pk, phase=rollout.phase, revision=rollout.revision)
        if row.update(memo=memo.to_json(), findings=found, reason=action.reason, **look_is_good(rollout)) and is_news:
            publish_live(f"rollout:{rollout.pk}", id=rollout.pk, revision=rollout.revision)
            if is_probing:
                enqueue_task("rollouts.probe", rollout_id=rollout.pk)


def _but_gaps(memo: Memo) -> Memo:
    """What is news to a page: workers that are behind at every look must not be slowed down by telling of it."""
    return replace(memo, unlooked_seconds=0.0, unlooked_until=None)


def _gist(reason: str) -> str:
    """A reason without its numbers: a clock that ticks is no news."""
    return reason.translate(_WITHOUT_DIGITS)


def _guarded(endpoint_id: str, call: Callable[[], object]) -> None:
    """One endpoint's fault must not stop the others of a chunk; it is written down and met again by the next tick."""
    try:
        call()
    except DomainError as error:
        log.warning("endpoint_step_failed", endpoint_id=endpoint_id, code=error.code, detail=error.detail)
