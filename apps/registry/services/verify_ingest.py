"""Bringing the bytes of a registered version here: for catalogue entries, and where files were damaged."""

from __future__ import annotations

from django.db import transaction

from apps.kernel.actor import SYSTEM, Actor
from apps.kernel.clock import now
from apps.kernel.errors import Conflict, DomainError, InvalidInput
from apps.kernel.services.outbox import enqueue_task
from apps.registry.domain.words import Trust, VersionStatus
from apps.registry.models import ModelVersion
from apps.registry.services.announce import version_record
from apps.registry.services.ingest_store import is_in_store
from apps.registry.services.locks import model_allowed, version_settling
from apps.registry.services.settle import Facts, version_settle
from apps.registry.services.verify import artifact_examine, is_read_here


def version_ingest_ask(*, actor: Actor, version: ModelVersion, source: str = "") -> ModelVersion:
    """Ask a worker to take a version's bytes into the store: from ``source``, else from where it was registered.

    Raises NotFound and Forbidden; Conflict (still pending, already here) and InvalidInput (a source that is not read
    from here).
    """
    model_allowed(version.model.name, actor=actor, action="model.register")
    wanted = source or version.source_uri
    if version.status == VersionStatus.PENDING:
        raise Conflict("version_pending", "It is being verified right now; wait for that.", is_retryable=True)
    if version.trust == Trust.VERIFIED and is_in_store(version.storage_uri):
        raise Conflict("version_ingested", "Its bytes are in the store already.")
    if not is_read_here(wanted, actor.label, version.mlflow_model_id):
        detail = (
            f"{wanted[:300]} is not read from here. Upload the files to "
            "/api/2.0/mlflow-artifacts/artifacts/uploads/<name>/… and give that address as source, or let an admin add "
            "the place to PILOTHOUSE_ARTIFACT_SOURCES."
        )
        raise InvalidInput.at("/source", "source_foreign", detail)
    with transaction.atomic():
        enqueue_task("registry.ingest_version", version_id=version.pk, source=wanted, owner_label=actor.label)
        version_record(actor, "version.ingest_asked", version.model, version, source=wanted)
    return version


def version_ingest(*, version_id: str, source: str, owner_label: str) -> None:
    """The worker's part; run again it changes nothing. A failure is kept as the version's message."""
    version = ModelVersion.everything.select_related("model").filter(pk=version_id).first()
    if version is None or version.status == VersionStatus.PENDING:
        return
    if version.trust == Trust.VERIFIED and is_in_store(version.storage_uri):
        return
    try:
        facts = artifact_examine(version, source, owner_label)
        if version.artifact_digest and version.artifact_digest != facts.artifact_digest:
            raise Conflict(
                "digest_mismatch",
                f"What lies at {source[:300]} has the digest {facts.artifact_digest}, registered was "
                f"{version.artifact_digest}; register it as a new version.",
            )
    except DomainError as fault:
        _failed(version, source, fault)
        return
    if version.artifact_digest:
        _restored(version.pk, facts)
    else:
        version_settle(version_id=version.pk, facts=facts)


def _restored(version_id: str, facts: Facts) -> None:
    """The same bytes in another place: everything else of the version stays what it was."""
    with transaction.atomic():
        version = version_settling(version_id)
        version.storage_uri, version.trust, version.updated_at = facts.storage_uri, Trust.VERIFIED, now()
        version.format, version.inspection = facts.format, dict(facts.inspection)
        version.status_message = ""
        version.save(update_fields=["storage_uri", "trust", "updated_at", "format", "inspection", "status_message"])
        version_record(SYSTEM, "version.ingested", version.model, version, digest=version.artifact_digest)


def _failed(version: ModelVersion, source: str, fault: DomainError) -> None:
    with transaction.atomic():
        row = version_settling(version.pk)
        row.status_message, row.updated_at = f"Ingesting failed: {fault.detail}"[:4000], now()
        row.save(update_fields=["status_message", "updated_at"])
        told = {"source": source, "code": fault.code, "detail": fault.detail}
        version_record(SYSTEM, "version.ingest_failed", row.model, row, **told)
