"""What becomes of a version once its bytes have been looked at: verified with a semver, or failed with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction

from apps.kernel.actor import SYSTEM, Actor
from apps.kernel.clock import now
from apps.kernel.errors import Conflict, DomainError, PolicyRefused
from apps.registry.domain.compatibility import check_semver, proposed_semver
from apps.registry.domain.semver import Semver
from apps.registry.domain.signature import Signature
from apps.registry.domain.words import Trust, VersionStatus
from apps.registry.models import ModelVersion
from apps.registry.services.announce import announce, version_record
from apps.registry.services.locks import version_settling


@dataclass(frozen=True, slots=True)
class Facts:
    """What verification read from an artifact; the forms are those of ``ModelVersion``."""

    storage_uri: str
    artifact_digest: str
    size_bytes: int
    flavor: str = ""
    format: str = ""
    signature: Mapping[str, Any] = field(default_factory=dict)
    input_constraints: Mapping[str, Any] = field(default_factory=dict)
    inspection: Mapping[str, Any] = field(default_factory=dict)
    reference_profile: Mapping[str, Any] = field(default_factory=dict)


def version_settle(*, actor: Actor = SYSTEM, version_id: str, facts: Facts) -> ModelVersion:
    """A version whose bytes were read becomes READY and verified, and gets the semver that its signature decides.

    A pending version and an unverified catalogue entry can be settled; one that is verified or failed stays as it is,
    so a repeated task changes nothing. A semver that the author wanted and the rule refuses makes it FAILED, with the
    rule's sentence. Raises NotFound.
    """
    with transaction.atomic():
        version = version_settling(version_id)
        if version.trust == Trust.VERIFIED or version.status == VersionStatus.FAILED:
            return version
        for name in Facts.__dataclass_fields__:
            value = getattr(facts, name)
            setattr(version, name, dict(value) if isinstance(value, Mapping) else value)
        version.trust, version.status, version.status_message = Trust.VERIFIED, VersionStatus.READY, ""
        if version.signature.get("inputs"):
            try:
                number_semver(version)
            except DomainError as fault:
                version.status, version.status_message = VersionStatus.FAILED, fault.detail
        _settled(actor, version, "version.verified" if version.status == VersionStatus.READY else "version.failed")
    return version


def version_fail(
    *, actor: Actor = SYSTEM, version_id: str, message: str, trust: Trust = Trust.UNVERIFIED
) -> ModelVersion:
    """A pending version becomes FAILED; ``message`` is what the training script prints. Raises NotFound."""
    with transaction.atomic():
        version = version_settling(version_id)
        if version.status != VersionStatus.PENDING:
            return version
        version.status, version.status_message, version.trust = VersionStatus.FAILED, message[:4000], trust
        _settled(actor, version, "version.failed")
    return version


def version_catalogue(*, actor: Actor = SYSTEM, version_id: str, message: str = "") -> ModelVersion:
    """A pending version whose source cannot be reached from here becomes READY, unverified. Raises NotFound."""
    with transaction.atomic():
        version = version_settling(version_id)
        if version.status != VersionStatus.PENDING:
            return version
        version.status, version.status_message, version.trust = VersionStatus.READY, message[:4000], Trust.UNVERIFIED
        _settled(actor, version, "version.entered")
    return version


def number_semver(version: ModelVersion) -> None:
    """Sets major, minor and patch from the signature, in memory; the model's row must be locked by the caller.

    Raises InvalidInput, Conflict ``version_exists`` and PolicyRefused for a wanted semver that cannot be had.
    """
    others = ModelVersion.everything.filter(model_id=version.model_id, major__isnull=False).exclude(pk=version.pk)
    known = {
        Semver(one.major, one.minor, one.patch): Signature.of(one.signature, one.input_constraints)
        for one in others.only("id", "major", "minor", "patch", "signature", "input_constraints")
        if one.major is not None and one.minor is not None and one.patch is not None
    }
    signature = Signature.of(version.signature, version.input_constraints)
    if version.semver_wanted:
        chosen = Semver.parse(version.semver_wanted)
        _check_wanted(known, chosen, signature)
    else:
        chosen = proposed_semver(known, signature)
    version.major, version.minor, version.patch = chosen.major, chosen.minor, chosen.patch


def _check_wanted(known: Mapping[Semver, Signature], wanted: Semver, signature: Signature) -> None:
    """The author may raise the number that the signature asks for, never lower it."""
    if wanted in known:
        raise Conflict("version_exists", f"{wanted} is registered already and never changes; take the next number.")
    check_semver(known, wanted, signature)
    below = max((one for one in known if one < wanted and one.major == wanted.major), default=None)
    if below is not None and below.minor == wanted.minor and known[below] != signature:
        raise PolicyRefused(
            "minor_bump_required",
            f"{wanted} has another signature than {below}: it fits its callers but is no patch. "
            f"Take {wanted.major}.{wanted.minor + 1}.0 or higher.",
        )


def _settled(actor: Actor, version: ModelVersion, verb: str) -> None:
    version.updated_at = now()
    version.save()
    told = {"name": version.model.name, "version": str(version.number), "status": version.status.upper()}
    announce(version.model, "model_version", "status_changed", {**told, "status_message": version.status_message})
    version_record(
        actor,
        verb,
        version.model,
        version,
        digest=version.artifact_digest,
        trust=version.trust,
        message=version.status_message[:1000],
    )
