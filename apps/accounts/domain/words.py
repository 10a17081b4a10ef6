"""Roles and actions as people say them: for pages, never for decisions."""

from __future__ import annotations

from typing import Final

from apps.accounts.domain.roles import Role

ROLE_WORDS: Final = {
    Role.VIEWER: "look at everything",
    Role.OPERATOR: "look; pause, abort and roll back",
    Role.ENGINEER: "register versions; plan, start and steer rollouts; change endpoints",
    Role.APPROVER: "look; pause, abort and roll back; decide reviews",
    Role.AUDITOR: "look; read and export the audit log",
    Role.ADMIN: "connect targets, change endpoints, give roles, set freeze windows, read the audit log; never ship",
}

# (group, {action: words}); every action of the role table is in exactly one group (a test says so).
ACTION_GROUPS: Final[tuple[tuple[str, dict[str, str]], ...]] = (
    ("Look", {
        "fleet.read": "see the fleet", "model.read": "see models", "endpoint.read": "see endpoints",
        "target.read": "see targets", "rollout.read": "see rollouts", "review.read": "see reviews",
        "member.read": "see people and teams", "experiment.read": "see experiments",
        "alert.read": "see alerts", "objective.read": "see objectives and their budgets",
    }),
    ("Keep safe", {
        "rollout.pause": "pause a rollout", "rollout.abort": "abort a rollout", "rollout.roll_back": "roll back",
        "rollout.acknowledge": "acknowledge a rollout that went back", "experiment.stop": "stop an experiment",
        "alert.acknowledge": "acknowledge an alert", "alert.silence": "silence an alert",
        "alert.resolve": "resolve an alert",
    }),
    ("Ship", {
        "model.register": "register a version", "rollout.plan": "plan a rollout", "rollout.start": "start a rollout",
        "rollout.resume": "resume a rollout", "rollout.promote": "promote, skip or override",
        "rollout.retry": "retry a rollout", "review.request": "ask for a review",
        "experiment.write": "design and plan experiments", "experiment.start": "start an experiment",
        "experiment.extend": "extend an experiment", "experiment.decide": "decide an experiment",
        "experiment.report": "assign units and report outcomes", "label.write": "upload labels",
    }),
    ("Decide", {"review.decide": "decide a review"}),
    ("Models and endpoints", {
        "model.write": "change models and tags", "model.delete": "delete models and versions",
        "alias.move": "move aliases", "endpoint.write": "change endpoints", "registry.import": "import a registry",
        "image.build": "build images of versions", "objective.write": "set objectives",
    }),
    ("Administer", {
        "target.write": "connect targets", "freeze.write": "set freeze windows", "policy.write": "change policies",
        "webhook.write": "change webhooks", "alert.route": "say where alerts go",
        "member.write": "give and take roles", "team.write": "make teams",
        "service.write": "make service accounts and their keys", "token.write": "revoke others' keys",
        "trust.write": "trust CI jobs",
    }),
    ("Audit", {"audit.read": "read the audit log", "audit.export": "export the audit log"}),
)  # fmt: skip

ACTION_WORDS: Final = {action: words for _, group in ACTION_GROUPS for action, words in group.items()}
