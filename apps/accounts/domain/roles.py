"""Who may do what: a table of roles and actions. Default deny; a role not named here may do nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum


class Role(StrEnum):
    VIEWER = "viewer"
    OPERATOR = "operator"
    ENGINEER = "engineer"
    APPROVER = "approver"
    AUDITOR = "auditor"
    ADMIN = "admin"


class Environment(StrEnum):
    DEVELOPMENT = "development"  # as targets store it
    STAGING = "staging"
    PRODUCTION = "production"


READ = frozenset(
    {"fleet.read", "model.read", "endpoint.read", "target.read", "rollout.read", "review.read", "member.read",
     "experiment.read", "alert.read", "objective.read"}
)  # fmt: skip
SAFETY = frozenset(
    {"rollout.pause", "rollout.abort", "rollout.roll_back", "rollout.acknowledge", "experiment.stop",
     "alert.acknowledge", "alert.silence", "alert.resolve"}
)  # fmt: skip
SHIP = frozenset(
    {"model.register", "rollout.plan", "rollout.start", "rollout.resume", "rollout.promote", "rollout.retry",
     "experiment.write", "experiment.start", "experiment.extend", "experiment.decide", "experiment.report",
     "label.write"}
)  # fmt: skip
MODELS = frozenset(
    {"model.write", "model.delete", "alias.move", "review.request", "image.build", "objective.write"}
)  # fmt: skip
MANAGE = frozenset(
    {"target.write", "endpoint.write", "member.write", "team.write", "token.write", "service.write", "trust.write",
     "freeze.write", "policy.write", "webhook.write", "alert.route", "objective.write", "registry.import", "audit.read"}
)  # fmt: skip

ACTIONS: dict[Role, frozenset[str]] = {
    Role.VIEWER: READ,
    Role.OPERATOR: READ | SAFETY,
    Role.ENGINEER: READ | SAFETY | SHIP | MODELS | {"endpoint.write"},
    Role.APPROVER: READ | SAFETY | {"review.decide"},
    Role.AUDITOR: READ | {"audit.read", "audit.export"},
    Role.ADMIN: READ | MANAGE,
}

ALL_ACTIONS: frozenset[str] = frozenset().union(*ACTIONS.values())

# Who may not read a thing must not learn that it exists: what each kind of action is read by.
_READ_BY = {"alias": "model.read", "registry": "model.read", "freeze": "target.read", "policy": "target.read",
            "image": "model.read", "label": "endpoint.read",
            "token": "member.read", "team": "member.read", "service": "member.read", "trust": "member.read",
            "webhook": "fleet.read", "audit": "audit.read", "readout": "experiment.read",
            "study": "experiment.read"}  # fmt: skip


# The audit log is one for the whole house and its entries name no team: only a role that holds everywhere opens it.
EVERYWHERE: frozenset[str] = frozenset({"audit.read", "audit.export"})


def actions_of(roles: frozenset[Role]) -> frozenset[str]:
    """The union of what the roles allow; there are no deny rules."""
    return frozenset().union(*(ACTIONS[role] for role in roles)) if roles else frozenset()


def who_can(action: str) -> list[Role]:
    """The roles that may do ``action``, for the sentence on a disabled button."""
    return [role for role in Role if action in ACTIONS[role]]


def look_only(roles: Iterable[str], where: str = "", people: Sequence[str] = ()) -> str:
    """The sentence beside a button that cannot be pressed; ``where`` begins with a space."""
    who = f" {', '.join(people)} can do it." if people else ""
    return f"You may look, not do this. It needs the role {' or '.join(roles)}{where}; an admin can give it.{who}"


def read_action_of(action: str) -> str:
    """The action that lets one see what ``action`` changes: ``rollout.start`` is seen by ``rollout.read``."""
    kind = action.partition(".")[0]
    return _READ_BY.get(kind, f"{kind}.read")
