"""Plans, a stand-in serving program and steady callers for the agent's tests."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from scipy import stats

from agent.testing import RunningAgent

STUB = f"{sys.executable} {Path(__file__).with_name('stub_serving.py')}"
DIGEST = "sha256:" + "0" * 64


def variant(key: str, role: str = "stable", **changes: Any) -> dict[str, Any]:
    return {
        "key": key,
        "version": "1.0.0",
        "model": "late-arrival",
        "role": role,
        "artifact_uri": "file:///nowhere",
        "artifact_digest": DIGEST,
        "replicas": 1,
        "workers": 1,
        "limits": {"max_rows": 1000, "max_bytes": 1048576, "queue": 128, "timeout_seconds": 10.0},
        "env": {},
        **changes,
    }


def plan(
    generation: int,
    weights: dict[str, int],
    *variants: dict[str, Any],
    endpoint: str = "late-arrival",
    **route: Any,
) -> dict[str, Any]:
    return {
        "endpoint": endpoint,
        "generation": generation,
        "variants": list(variants) or [variant(key) for key in weights],
        "route": {
            "period": generation,
            "weights_bp": weights,
            "mirror": None,
            "sticky_header": None,
            "failover_to": None,
            **route,
        },
    }


def of(observed: dict[str, Any], key: str) -> dict[str, Any]:
    """The observed variant of that key."""
    return next(found for found in observed["variants"] if found["key"] == key)


def counts(agent: RunningAgent, requests: int, path: str = "/serve/late-arrival/x", **headers: str) -> Counter[str]:
    """How many of `requests` each variant answered; what is no 200 is counted by its status, no answer by its error."""
    found: Counter[str] = Counter()
    with httpx.Client(base_url=agent.gateway_url, trust_env=False) as client:
        for _ in range(requests):
            try:
                response = client.get(path, headers=headers)
            except httpx.TransportError as error:
                found[type(error).__name__] += 1
                continue
            ok = response.status_code == 200
            found[response.headers["x-pilothouse-variant"] if ok else str(response.status_code)] += 1
    return found


def is_share(part: int, whole: int, share: float) -> bool:
    """Whether `part` of `whole` can be a share that lots were drawn for: a right one is denied once in 100,000 runs."""
    return bool(stats.binomtest(part, whole, share).pvalue > 1e-5)


@dataclass
class Load:
    """Answers per variant and what went wrong, as steady callers saw it."""

    answers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        return self.answers.total() + len(self.failures)


@asynccontextmanager
async def steady_load(agent: RunningAgent, callers: int = 4, patience: float = 30.0) -> AsyncIterator[Load]:
    """`callers` keep asking the gateway, one request after the other, until the block ends; patience in seconds."""
    load, is_over = Load(), asyncio.Event()

    async def call(client: httpx.AsyncClient) -> None:
        while not is_over.is_set():
            try:
                response = await client.post("/serve/late-arrival/v2/models/m/infer", content=b"{}")
            except httpx.HTTPError as error:
                load.failures.append(repr(error))
                continue
            if response.status_code == 200:
                load.answers[response.headers["x-pilothouse-variant"]] += 1
            else:
                load.failures.append(f"{response.status_code} {response.text[:100]}")

    async with httpx.AsyncClient(base_url=agent.gateway_url, trust_env=False, timeout=patience) as client:
        tasks = [asyncio.create_task(call(client)) for _ in range(callers)]
        try:
            yield load
        finally:
            is_over.set()
            await asyncio.gather(*tasks)
