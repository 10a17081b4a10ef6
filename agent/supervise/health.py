"""Asks a serving process whether it is ready."""

from __future__ import annotations

from enum import StrEnum

import httpx

TIMEOUT_SECONDS = 2.0


class Answer(StrEnum):
    READY = "ready"
    NOT_READY = "not_ready"  # it answered, with something else than 200
    SILENT = "silent"  # no connection or no answer in time


def http_client() -> httpx.AsyncClient:
    """A client for loopback only: no proxies from the environment, no connection kept.

    A kept connection could answer for a process that has been replaced on the same port.
    """
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False, limits=limits)


async def ask_ready(client: httpx.AsyncClient, port: int) -> Answer:
    try:
        response = await client.get(f"http://127.0.0.1:{port}/v2/health/ready")
    except httpx.HTTPError:
        return Answer.SILENT
    return Answer.READY if response.status_code == 200 else Answer.NOT_READY


def answers_ready(port: int) -> bool:
    """The same question while nothing else goes on yet: at the start of the agent."""
    try:
        with httpx.Client(timeout=TIMEOUT_SECONDS, trust_env=False) as client:
            return client.get(f"http://127.0.0.1:{port}/v2/health/ready").status_code == 200
    except httpx.HTTPError:
        return False
