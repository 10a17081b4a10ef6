"""Asking the candidate of an endpoint that nobody calls, through its gateway, so that its health can be judged.

Counted by serving as route ``probe`` and judged from telemetry like any request: nothing here decides anything.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import httpx
import structlog

from apps.registry.services.example import bodies_of
from apps.rollouts.domain.probing import PROBES, is_probe_due
from apps.rollouts.services.observe import rollouts_look
from apps.rollouts.services.rows import rollouts_read

log = structlog.get_logger(__name__)

TIMEOUT = httpx.Timeout(5.0, connect=2.0)
ALL_SECONDS = 8.0  # all requests of one task together; the next task comes soon anyway
FRESH_SECONDS = 15.0  # a task that lay in a queue for longer is news of yesterday


def rollout_probe(rollout_id: str) -> int:
    """Send up to PROBES requests one after the other; how many were answered at all. Not in a transaction.

    The world is looked at again first: since the task was asked for the rollout may have moved, ended or got callers.
    """
    looks = rollouts_look(rollouts_read([rollout_id]))
    if not looks:
        return 0
    look = looks[0]
    asked = look.state.memo.probed_at
    unasked = replace(look.state, memo=replace(look.state.memo, probed_at=None))
    is_wanted = is_probe_due(unasked, look.seen)
    if not is_wanted or asked is None or look.seen.now - asked > FRESH_SECONDS:
        return 0
    observed = look.row.observed
    if observed is None or not observed.address:
        return 0
    version = look.rollout.candidate_version
    return send(observed.address, look.state.candidate, list(bodies_of(version)))


def send(address: str, variant: str, bodies: Sequence[dict[str, Any]]) -> int:
    """Up to PROBES requests to ``variant`` behind the gateway's ``address``; how many were answered, whatever with.

    They carry the first of ``bodies``; one refused with a 4xx gives way to the next, and the last one ends it.
    """
    headers = {"x-pilothouse-variant": variant, "x-pilothouse-probe": "1"}
    ends, answered = time.monotonic() + ALL_SECONDS, 0
    with client() as http:
        while answered < PROBES and time.monotonic() < ends:
            try:
                response = http.post(f"{address.rstrip('/')}/invocations", json=bodies[0], headers=headers)
            except httpx.HTTPError as error:
                log.warning("probe_unanswered", address=address, variant=variant, error=type(error).__name__)
                return answered
            answered += 1
            if 400 <= response.status_code < 500:
                # the row is at fault, and a caller's fault says nothing about the version
                log.warning("probe_refused", address=address, variant=variant, status=response.status_code)
                if len(bodies) == 1:
                    return answered
                bodies = bodies[1:]
    return answered


def client() -> httpx.Client:
    """No proxies from the environment: they have no way to a loopback address. No redirect leads anywhere else."""
    return httpx.Client(timeout=TIMEOUT, trust_env=False, follow_redirects=False)
