"""Token buckets in Redis, one round trip each: ``rate_limit_take("read", "key:Ab12")``.

A bucket holds ``burst`` tokens and refills at ``rate`` a second, by the server's clock; a call takes one. When Redis is
gone, ``auth`` is refused (guessing must not become free) and everything else goes on (a rollback must not wait for a
counter). Limits are ``PILOTHOUSE_LIMITS="read=5000/20000,auth=5/100"``: tokens a second / at most saved up.
"""

from __future__ import annotations

import hashlib
import math
import threading
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Final, cast

import redis
import structlog
from django.conf import settings

log = structlog.get_logger(__name__)

DEFAULTS: Final = {"read": (2000.0, 10_000), "write": (200.0, 2000), "ingest": (500.0, 5000), "auth": (5.0, 100)}
FAIL_CLOSED: Final = frozenset({"auth"})
TIMEOUT_SECONDS: Final = 0.25
PREFIX: Final = "pilothouse:limit:"

# KEYS[1] bucket; ARGV rate a second, burst, cost. Answers {allowed, tokens left, milliseconds until one is there}.
# The clock is the server's: web processes need not agree about the time.
_SCRIPT: Final = """
local rate, burst, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local held = redis.call('HMGET', KEYS[1], 't', 'a')
local tokens, at = tonumber(held[1]), tonumber(held[2])
if tokens == nil or at == nil then tokens, at = burst, now end
if now > at then tokens = math.min(burst, tokens + (now - at) * rate) end
local allowed, wait = 0, 0
if tokens >= cost then
  tokens = tokens - cost
  allowed = 1
else
  wait = math.ceil((cost - tokens) / rate * 1000)
end
redis.call('HSET', KEYS[1], 't', string.format('%.6f', tokens), 'a', string.format('%.6f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil(burst / rate * 1000) + 1000)
return {allowed, math.floor(tokens), wait}
"""


@dataclass(frozen=True, slots=True)
class Policy:
    """``rate`` tokens a second, at most ``burst`` saved up."""

    name: str
    rate: float
    burst: int

    @property
    def window_seconds(self) -> int:
        """How long an empty bucket needs to be full."""
        return max(1, math.ceil(self.burst / self.rate))


@dataclass(frozen=True, slots=True)
class Taken:
    """What a call got. ``retry_after_seconds`` is 0 where it was allowed; ``is_counted`` False where Redis was gone."""

    policy: Policy
    is_allowed: bool
    remaining: int
    retry_after_seconds: int
    is_counted: bool = True

    @property
    def refusal(self) -> tuple[int, str]:
        """(HTTP status, problem code) of a call that was not allowed."""
        return (429, "rate_limited") if self.is_counted else (503, "limits_unavailable")

    def headers(self) -> dict[str, str]:
        """``RateLimit-Policy`` and ``RateLimit`` (IETF draft-ietf-httpapi-ratelimit-headers), and ``Retry-After``."""
        policy, found = self.policy, {}
        if self.is_counted:
            missing = policy.burst - self.remaining
            found["RateLimit-Policy"] = f'"{policy.name}";q={policy.burst};w={policy.window_seconds}'
            found["RateLimit"] = f'"{policy.name}";r={self.remaining};t={math.ceil(missing / policy.rate)}'
        if not self.is_allowed:
            found["Retry-After"] = str(self.retry_after_seconds)
        return found


def credential_bucket(credential: bytes) -> str:
    """Whose bucket: of what was presented, hashed, because nothing that opens a door goes to Redis."""
    return "cred:" + hashlib.sha256(credential).hexdigest()[:32]


def address_bucket(address: str) -> str:
    """Whose bucket where nothing was presented, or what was presented was refused."""
    return f"addr:{address}"


def rate_limit_take(name: str, principal: str, cost: int = 1) -> Taken:
    """Take ``cost`` tokens of class ``name`` for ``principal``; one round trip. Raises ValueError (unknown class)."""
    policy = policies().get(name)
    if policy is None:
        raise ValueError(f"undeclared rate limit class: {name}")
    if not _breaker.is_closed():
        return _without_redis(policy)
    try:
        # The stubs know an awaitable too; this client is the blocking one.
        answer = cast(Any, _script(settings.PILOTHOUSE_REDIS_URL))(
            keys=[f"{PREFIX}{name}:{principal}"], args=[policy.rate, policy.burst, cost]
        )
    except redis.RedisError as error:
        _breaker.open()
        log.warning("rate_limit.redis_gone", limit=name, error=type(error).__name__)
        return _without_redis(policy)
    allowed, remaining, wait_ms = (int(value) for value in answer)
    return Taken(policy, bool(allowed), remaining, max(1, math.ceil(wait_ms / 1000)) if not allowed else 0)


def policies() -> dict[str, Policy]:
    """Every class, as settings have it."""
    return _parsed(settings.PILOTHOUSE_LIMITS)


@lru_cache(maxsize=8)
def _parsed(text: str) -> dict[str, Policy]:
    found = dict(DEFAULTS)
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, _, numbers = item.partition("=")
        rate, _, burst = numbers.partition("/")
        try:
            pair = (float(rate), int(burst))
        except ValueError:
            pair = (0.0, 0)
        if name not in DEFAULTS or not math.isfinite(pair[0]) or pair[0] <= 0 or pair[1] < 1:
            raise ValueError(f"PILOTHOUSE_LIMITS: {item!r}; say for example read=2000/10000 ({', '.join(DEFAULTS)}).")
        found[name] = pair
    return {name: Policy(name, *pair) for name, pair in found.items()}


def _without_redis(policy: Policy) -> Taken:
    is_allowed = policy.name not in FAIL_CLOSED
    return Taken(policy, is_allowed, 0, 0 if is_allowed else 2, is_counted=False)


class _Breaker:
    """After a failure Redis is left alone for a second: a dead server must not add its timeout to every request."""

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None

    def is_closed(self) -> bool:
        return self._timer is None

    def open(self) -> None:
        if self._timer is None:
            self._timer = threading.Timer(1.0, self.close)
            self._timer.daemon = True
            self._timer.start()

    def close(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()


_breaker = _Breaker()


@cache
def _script(url: str) -> Any:
    client = redis.Redis.from_url(url, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS)
    return client.register_script(_SCRIPT)
