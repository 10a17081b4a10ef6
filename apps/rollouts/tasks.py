"""Doorbells: PostgreSQL says which rollouts are due; a lost, repeated or late task changes nothing."""

from __future__ import annotations

import secrets
from typing import Any

from celery import shared_task

from apps.rollouts.services.probe import rollout_probe
from apps.rollouts.services.promotion import promotion_review, promotion_settle, promotions_due
from apps.rollouts.services.sequence_tick import sequence_tick, sequences_due
from apps.rollouts.services.tick import rollout_tick, tick_due
from apps.rollouts.services.warm import warm_release_due


@shared_task(name="rollouts.tick_due", bind=True)  # type: ignore[untyped-decorator]
def rollouts_tick_due(self: Any) -> int:
    """Every second: look at whatever is due."""
    return tick_due(_holder(self))


@shared_task(name="rollouts.tick", bind=True)  # type: ignore[untyped-decorator]
def rollouts_tick(self: Any, rollout_id: str) -> None:
    """One rollout was started, commanded or moved."""
    rollout_tick(rollout_id, _holder(self))


@shared_task(name="rollouts.probe")  # type: ignore[untyped-decorator]
def rollouts_probe(rollout_id: str) -> int:
    """Nobody calls the endpoint and its target's policy is to probe: ask the candidate some times."""
    return rollout_probe(rollout_id)


@shared_task(name="rollouts.promotion_requested")  # type: ignore[untyped-decorator]
def rollouts_promotion_requested(promotion_id: str) -> str:
    """Somebody wants to move a protected alias: ask for a second person."""
    return promotion_review(promotion_id)


@shared_task(name="rollouts.promotion_decided")  # type: ignore[untyped-decorator]
def rollouts_promotion_decided(promotion_id: str) -> str:
    """The review of such a request ended."""
    return promotion_settle(promotion_id)


@shared_task(name="rollouts.promotions_due")  # type: ignore[untyped-decorator]
def rollouts_promotions_due() -> int:
    """Every thirty seconds: what a lost bell left behind."""
    return promotions_due()


@shared_task(name="rollouts.warm_release_due")  # type: ignore[untyped-decorator]
def rollouts_warm_release_due() -> int:
    """Every five seconds: what was kept warm after a promotion for long enough."""
    return warm_release_due()


@shared_task(name="rollouts.sequence_tick")  # type: ignore[untyped-decorator]
def rollouts_sequence_tick(sequence_id: str) -> None:
    """One sequence was started, commanded or moved."""
    sequence_tick(sequence_id)


@shared_task(name="rollouts.sequences_due")  # type: ignore[untyped-decorator]
def rollouts_sequences_due() -> int:
    """Every two seconds: look at whatever sequence is due."""
    return sequences_due()


def _holder(task: Any) -> str:
    """One attempt: a message delivered twice must not share a lease."""
    return f"{task.request.hostname}/{secrets.token_hex(8)}"[-80:]
