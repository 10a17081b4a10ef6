"""What can be asked of a thing now: its state allows it or says why not, its right says who may."""

from __future__ import annotations

from dataclasses import dataclass

from apps.accounts.domain.roles import who_can


@dataclass(frozen=True, slots=True)
class AllowedCommand:
    """One button: whether it works now, and if not why. ``action`` is the right it needs, ``roles`` who has it."""

    command: str
    is_allowed: bool
    reason: str
    action: str
    roles: tuple[str, ...]


def command_allowed(command: str, action: str, refusal: str) -> AllowedCommand:
    """``refusal``: why the state does not allow it, "" where it does. Rights are the caller's to add."""
    return AllowedCommand(command, not refusal, refusal, action, tuple(role.value for role in who_can(action)))
