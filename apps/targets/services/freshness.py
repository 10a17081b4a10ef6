"""When a target last answered. Kept in Redis: an unchanged endpoint must cost no database write."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import cast

import structlog
from redis import RedisError

from apps.kernel.clock import now
from apps.kernel.live import redis_client

log = structlog.get_logger(__name__)

FRESH_SECONDS = 45  # above one long poll (20 s) and a retry
KEPT_SECONDS = 30 * 86400
"""Far above FRESH_SECONDS: of a target that fell silent, pages have to say since when."""


def target_answered(target_id: str) -> None:
    """Note that the target has just confirmed everything stored about its endpoints. Losing the note costs a poll."""
    try:
        redis_client().set(_key(target_id), now().timestamp(), ex=KEPT_SECONDS)
    except RedisError as error:
        log.info("freshness_not_kept", target_id=target_id, error=str(error))


def targets_answered_at(target_ids: Iterable[str]) -> dict[str, datetime]:
    """When each target last answered, if within FRESH_SECONDS; targets that did not are left out.

    A Redis that is down says nothing about any target: the answer is empty and endpoints are asked one by one. A note
    from the future (the clock was set back) is not fresh either, or nobody would ask until the clock has come there.
    """
    moment = now()
    return {
        target_id: at
        for target_id, at in targets_confirmed_at(target_ids).items()
        if abs((moment - at).total_seconds()) <= FRESH_SECONDS
    }


def targets_confirmed_at(target_ids: Iterable[str]) -> dict[str, datetime]:
    """When each target last answered, however long ago that is; those of which no note is kept are left out."""
    wanted = list(target_ids)
    if not wanted:
        return {}
    try:
        found = cast("list[bytes | None]", redis_client().mget([_key(target_id) for target_id in wanted]))
    except RedisError as error:
        log.info("freshness_unknown", error=str(error))
        return {}
    return {
        target_id: datetime.fromtimestamp(float(value), UTC)
        for target_id, value in zip(wanted, found, strict=True)
        if value is not None
    }


def _key(target_id: str) -> str:
    return f"observed:{target_id}"
