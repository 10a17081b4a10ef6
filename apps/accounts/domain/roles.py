"""Who may do what: a table of roles and actions. Default deny; a role not named here may do nothing."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    VIEWER = "viewer"
    OPERATOR = "operator"
    ENGINEER = "engineer"
    APPROVER = "approver"
    AUDITOR = "auditor"
    ADMIN = "admin"


READ = frozenset({"fleet.read", "model.read", "endpoint.read", "target.read", "rollout.read"})
SAFETY = frozenset({"rollout.pause", "rollout.abort", "rollout.roll_back"})
SHIP = frozenset(
    {"model.register", "rollout.plan", "rollout.start", "rollout.resume", "rollout.promote", "rollout.retry"}
)

ACTIONS: dict[Role, frozenset[str]] = {
    Role.VIEWER: READ,
    Role.OPERATOR: READ | SAFETY,
    Role.ENGINEER: READ | SAFETY | SHIP | {"endpoint.write", "alias.move"},
    Role.APPROVER: READ | SAFETY,
    Role.AUDITOR: READ | {"audit.read"},
    Role.ADMIN: READ | {"target.write", "endpoint.write", "member.write", "token.write", "freeze.write", "audit.read"},
}

ALL_ACTIONS: frozenset[str] = frozenset().union(*ACTIONS.values())


def actions_of(roles: frozenset[Role]) -> frozenset[str]:
    """The union of what the roles allow; there are no deny rules."""
    return frozenset().union(*(ACTIONS[role] for role in roles)) if roles else frozenset()


def who_can(action: str) -> list[Role]:
    """The roles that may do ``action``, for the sentence on a disabled button."""
    return [role for role in Role if action in ACTIONS[role]]
