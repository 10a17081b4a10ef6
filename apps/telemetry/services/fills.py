"""How full each process's ingest door is, told by itself. Kept in Redis with an expiry, not in the database: a door
fills when the database does not take what it holds, and one that has ended holds nothing."""

from __future__ import annotations

from typing import Final, cast

import orjson

from apps.kernel.live import redis_once
from apps.telemetry.domain.fill import Fill

TOLD_SECONDS: Final = 30
"""Six times the pause between two tellings (ingest/teller.py)."""
_PROCESSES: Final = "ingest:processes"


def fill_tell(fill: Fill) -> None:
    """Say how full this process's door is. Raises redis.RedisError."""
    with redis_once() as client, client.pipeline() as both:
        both.set(_key(fill.process), orjson.dumps(fill.to_json()), ex=TOLD_SECONDS)
        both.sadd(_PROCESSES, fill.process)
        both.execute()


def fills_told() -> list[Fill]:
    """What every process said within TOLD_SECONDS. Raises redis.RedisError; ValueError for what is no fill."""
    with redis_once() as client:
        names = sorted(name.decode() for name in cast("set[bytes]", client.smembers(_PROCESSES)))
        if not names:
            return []
        told = cast("list[bytes | None]", client.mget([_key(name) for name in names]))
        silent = [name for name, one in zip(names, told, strict=True) if one is None]
        if silent:  # ended; one that speaks at this moment adds itself again with its next word
            client.srem(_PROCESSES, *silent)
    return [Fill.from_json(orjson.loads(one)) for one in told if one is not None]


def _key(process: str) -> str:
    return f"ingest:fill:{process}"
