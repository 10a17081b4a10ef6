"""The keys of the alerts that are made here (alert_sources.py, alert_blind.py), by which the fleet page knows the alert
of a fault that it shows by itself (home_needs.py). Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

ANSWER: Final = "targets:answer:"
"""What all keys of targets that do not answer begin with."""


class RolloutFault(StrEnum):
    """What can be wrong about a rollout."""

    ENDED = "ended"  # it failed or went back, and nobody has acknowledged that
    WAITS = "waits"  # for a person
    ENGINE = "engine"  # the engine fails at it


def health_key(endpoint_id: str) -> str:
    """The endpoint does not serve as wished."""
    return f"targets:{endpoint_id}:health"


def answer_key(endpoint_id: str) -> str:
    """Its target does not answer."""
    return f"{ANSWER}{endpoint_id}"


def rollout_key(rollout_id: str, fault: RolloutFault) -> str:
    return f"rollouts:{rollout_id}:{fault}"
