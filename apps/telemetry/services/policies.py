"""How an endpoint's payloads are kept: for how long, and which features hashed or dropped. Changes are audited."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from django.conf import settings
from django.db import transaction

from apps.audit.services.record import event_record
from apps.kernel.actor import Actor
from apps.kernel.errors import Conflict, InvalidInput
from apps.targets.services.scope import endpoint_require
from apps.telemetry.domain.redaction import Redaction, Rules
from apps.telemetry.models import InferencePolicy

MAX_DAYS = 3650
MAX_FEATURES = 2_000


def policy_of(endpoint: str) -> InferencePolicy:
    """The stored policy, or the default one (not stored, revision 0)."""
    return InferencePolicy.objects.filter(pk=endpoint).first() or InferencePolicy(endpoint=endpoint, revision=0)


def rules_of(endpoint: str) -> Rules:
    """The rules as they are applied."""
    policy = policy_of(endpoint)
    key = hashlib.sha256(b"inference-log\x00" + settings.SECRET_KEY.encode()).digest()
    features = {name: Redaction(value) for name, value in policy.redaction.items()}
    return Rules(key, Redaction(policy.default), features)


def policy_set(
    *,
    actor: Actor,
    endpoint_id: str,
    retention_days: int,
    default: str,
    redaction: Mapping[str, str],
    revision: int | None = None,
) -> InferencePolicy:
    """Set the policy. What was stored before keeps the rules of its time. Raises InvalidInput, Conflict, Forbidden."""
    endpoint = endpoint_require(actor, "endpoint.write", endpoint_id)
    if not 1 <= retention_days <= MAX_DAYS:
        raise InvalidInput.at("/retention_days", "bad_days", f"retention_days lies between 1 and {MAX_DAYS}.")
    words = ", ".join(Redaction)
    if default not in set(Redaction):
        raise InvalidInput.at("/default", "bad_redaction", f"default is one of {words}.")
    if len(redaction) > MAX_FEATURES:
        raise InvalidInput.at("/redaction", "too_many", f"At most {MAX_FEATURES} features can be named.")
    for name, value in redaction.items():
        if value not in set(Redaction):
            raise InvalidInput.at(f"/redaction/{name}", "bad_redaction", f"{name}: one of {words}.")
    with transaction.atomic():
        InferencePolicy.objects.get_or_create(endpoint=endpoint.name)
        policy = InferencePolicy.objects.select_for_update().get(endpoint=endpoint.name)
        if revision is not None and revision not in (policy.revision, 0):
            raise Conflict("stale_revision", "The policy was changed meanwhile; look at it again.")
        before = _facts(policy)
        policy.retention_days, policy.default, policy.redaction = retention_days, default, dict(redaction)
        policy.revision += 1
        policy.save()
        event_record(
            actor=actor, verb="inference_log.policy_changed", subject_kind="endpoint", subject_id=endpoint.pk,
            subject_label=endpoint.name, detail={"before": before, "after": _facts(policy)},
        )  # fmt: skip
    return policy


def _facts(policy: InferencePolicy) -> dict[str, object]:
    return {
        "retention_days": policy.retention_days, "default": policy.default,
        "redaction": dict(sorted(policy.redaction.items())),
    }  # fmt: skip
