"""Every verb the log knows; an undeclared one is refused, so the vocabulary stays greppable."""

from __future__ import annotations

VERBS: dict[str, str] = {
    "user.created": "created the account {subject}",
    "user.signed_in": "signed in",
    "user.sign_in_failed": "failed to sign in",
    "token.created": "made the API key {subject}",
    "token.revoked": "revoked the API key {subject}",
    "model.created": "created the model {subject}",
    "version.registered": "registered {subject}",
    "alias.moved": "moved the alias {subject}",
    "target.created": "connected the target {subject}",
    "target.updated": "changed the target {subject}",
    "endpoint.created": "created the endpoint {subject}",
    "endpoint.desired": "changed what {subject} should run",
    "endpoint.removed": "removed the endpoint {subject}",
    "freeze.created": "set a freeze window on {subject}",
    "freeze.removed": "lifted a freeze window on {subject}",
    "rollout.created": "planned {subject}",
    "rollout.command_kept": "asked for a command that the engine could not carry out yet: {subject}",
    "rollout.transitioned": "moved {subject}",
}
