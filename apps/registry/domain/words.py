"""The closed vocabularies of the registry; stored values are snake_case."""

from __future__ import annotations

from enum import StrEnum


class ModelKind(StrEnum):
    MODEL = "model"
    PROMPT = "prompt"


class VersionStatus(StrEnum):
    """PENDING while a worker checks the artifact; READY and FAILED are final."""

    PENDING = "pending_registration"
    READY = "ready"
    FAILED = "failed_registration"


class Trust(StrEnum):
    """What is known about a version's bytes.

    VERIFIED: they lie at ``storage_uri`` and had ``artifact_digest`` when they were read here. UNVERIFIED: nobody has
    looked, a catalogue entry. MISSING: they were looked for at their source and are not there.
    """

    VERIFIED = "verified"
    UNVERIFIED = "unverified"
    MISSING = "missing"


class Stage(StrEnum):
    """MLflow's deprecated stages; at most one living version of a model is in PRODUCTION."""

    NONE = "none"
    STAGING = "staging"
    PRODUCTION = "production"
    ARCHIVED = "archived"


class PromotionState(StrEnum):
    OPEN = "open"
    CARRIED_OUT = "carried_out"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    VOIDED = "voided"


class WebhookStatus(StrEnum):
    ACTIVE = "active"
    DISABLED = "disabled"


class DeliveryState(StrEnum):
    WAITING = "waiting"
    DELIVERED = "delivered"
    GIVEN_UP = "given_up"
