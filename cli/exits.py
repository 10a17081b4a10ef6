"""How a command ends, and the error that carries it. The numbers are a promise to CI jobs: docs/cli.md."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any


class Exit(IntEnum):
    OK = 0
    FAILED = 1
    USAGE = 2
    WENT_BACK = 3
    NEEDS_PERSON = 4
    TIMED_OUT = 5
    AUTH = 6
    CONFLICT = 7
    REFUSED = 8


class CliError(Exception):
    """A sentence for stderr and the code to end with; ``problem`` is the API's own document where there is one."""

    def __init__(self, exit_code: Exit, sentence: str, problem: Mapping[str, Any] | None = None) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code
        self.sentence = sentence
        self.problem = dict(problem or {})


def exit_of_status(status: int, problem: Mapping[str, Any]) -> Exit:
    """What an error answer of the API means for the caller."""
    match status:
        case 401 | 403:
            return Exit.AUTH
        case 409 | 412 | 428:
            return Exit.CONFLICT
        case 422 if problem.get("kind") == "refused":
            return Exit.REFUSED
        case 400 | 404 | 405 | 406 | 413 | 415 | 422:
            return Exit.USAGE
        case _:
            return Exit.FAILED


def exit_of_phase(phase: str) -> Exit:
    """How a finished rollout ends a wait."""
    match phase:
        case "promoted" | "completed":
            return Exit.OK
        case "rolled_back" | "aborted" | "superseded":
            return Exit.WENT_BACK
        case _:
            return Exit.FAILED
