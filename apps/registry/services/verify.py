"""Looking at a version's bytes: digest, MLmodel, formats, and into the store. Run by a worker, outside transactions.

What is looked at is what was kept: every file goes into the store first and is read from there, so nothing can be
swapped between the look and the use. Nothing is loaded. A run that dies leaves the version PENDING and is repeated by a
next doorbell; the outcome is written once, by ``settle``, whoever comes first.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

import structlog
from django.conf import settings
from django.db.models.functions import Now

from apps.kernel.errors import DomainError, InvalidInput, PolicyRefused, Unavailable
from apps.registry.domain.inspection import inspect_files
from apps.registry.domain.manifest import Manifest
from apps.registry.domain.mlmodel import MAX_BYTES, Described, describe_mlmodel
from apps.registry.domain.words import Trust, VersionStatus
from apps.registry.drivers.artifacts import digest_and_size, folder_looks, locate, read_mlmodel
from apps.registry.drivers.sources import Deadline, folder_ingest, url_ingest
from apps.registry.drivers.store import Damaged
from apps.registry.models import ModelVersion
from apps.registry.services.ingest import upload_manifest, uploaded_source
from apps.registry.services.ingest_store import artifact_store
from apps.registry.services.locks import held_alone
from apps.registry.services.settle import Facts, version_catalogue, version_fail, version_settle
from apps.registry.services.sources import is_readable_here
from apps.registry.services.verify_policy import formats_judge

log = structlog.get_logger(__name__)

MAX_SECONDS = 1500.0
MAX_ATTEMPTS = 6
DUE_SECONDS = 20
BATCH = 20
_LOCK_SPACE = 0x5265


class NoSource(DomainError):
    """The source is not one that this installation reads."""


def artifact_check(version: ModelVersion) -> None:
    """Raises PolicyRefused ``version_unverified``, ``artifact_missing`` or ``digest_mismatch``.

    Reads it all: not in a transaction.
    """
    if version.trust == Trust.UNVERIFIED:
        raise PolicyRefused("version_unverified", unverified_sentence(version), extra={"version": version.id})
    place = version.storage_uri or version.source_uri
    try:
        found, _ = digest_and_size(locate(place))
    except InvalidInput as fault:
        code = "digest_mismatch" if fault.code in {"artifact_irregular", "artifact_changed"} else "artifact_missing"
        raise PolicyRefused(
            code,
            f"The artifact of {version.reference} cannot be used: {fault.detail} "
            "Restore it at its source, or register a new version.",
            extra={"version": version.id, "source": place},
        ) from fault
    if found != version.artifact_digest:
        raise PolicyRefused(
            "digest_mismatch",
            f"The artifact of {version.reference} was changed after its registration: {found}, registered as "
            f"{version.artifact_digest}. Restore it at its source, or register what lies there as a new version.",
            extra={"version": version.id, "source": place, "found": found},
        )


def unverified_sentence(version: ModelVersion) -> str:
    """Why an unverified version cannot be served, and the one line that changes it. Reads ``version.model``."""
    call = f"{settings.PILOTHOUSE_BASE_URL}/api/v1/models/{version.model.name}/versions/{version.number}/ingest"
    return (
        f"Nobody here has seen the bytes of {version.model.name} {version.reference} (from {version.source_uri}). "
        f"Ingest them: curl -X POST {call} -H 'Authorization: Bearer plh_…' -H 'Content-Type: application/json' "
        '-d \'{"source": "…"}\''
    )


def version_verify(version_id: str) -> None:
    """Look at a pending version and settle it: READY with its facts, FAILED with the reasons, or a catalogue entry.

    1. one worker at a time per version (a lock of the session, gone with a killed worker); 2. count the attempt: a
    version that kills its worker again and again ends FAILED; 3. examine; 4. settle, once. A fault that a retry cures
    leaves it PENDING for ``verify_due``. Any other exception is a defect: it is raised, and counted.
    """
    version = ModelVersion.everything.select_related("model").filter(pk=version_id).first()
    if version is None or version.status != VersionStatus.PENDING:
        return
    with held_alone(_LOCK_SPACE, version_id) as is_mine:
        if not is_mine:
            return
        attempts = int(version.inspection.get("attempts", 0)) + 1
        if attempts > MAX_ATTEMPTS:
            message = f"Its files could not be looked at in {MAX_ATTEMPTS} attempts; the log of the workers says more."
            version_fail(version_id=version_id, message=message)
            return
        pending = ModelVersion.everything.filter(pk=version_id, status=VersionStatus.PENDING)
        if not pending.update(inspection={"attempts": attempts}):
            return
        _settle(version, is_last=attempts == MAX_ATTEMPTS)


def verify_due(limit: int = BATCH) -> int:
    """Versions whose doorbell was lost or whose worker died; how many were looked at."""
    due = ModelVersion.everything.filter(
        status=VersionStatus.PENDING, updated_at__lt=Now() - timedelta(seconds=DUE_SECONDS)
    )
    ids = list(due.order_by("updated_at").values_list("pk", flat=True)[:limit])
    for version_id in ids:
        version_verify(version_id)
    return len(ids)


def artifact_examine(version: ModelVersion, source: str, owner_label: str) -> Facts:
    """Take the bytes of ``source`` into the store and look at them there.

    Raises NoSource; InvalidInput (missing, irregular, changed, MLmodel, signature); PolicyRefused ``format_refused``;
    Unavailable.
    """
    store = artifact_store()
    manifest = _taken(version, source, owner_label)
    try:
        described = _described(manifest)
        inspection = inspect_files(store.looks(manifest))
        formats_judge(version.model, inspection, described.code)
        store.tree_add(manifest)
        folder = store.checkout(manifest)
    except Damaged as damage:
        raise Unavailable("artifact_store_damaged", f"The artifact store lost a file: {damage}.") from damage
    return Facts(
        storage_uri=folder.as_uri(),
        artifact_digest=manifest.digest,
        size_bytes=manifest.size,
        flavor=described.flavor,
        format=inspection.format.value,
        signature=described.signature,
        input_constraints=described.input_constraints,
        inspection=inspection.as_dict(),
    )


def is_read_here(source: str, owner_label: str, mlflow_model_id: str = "") -> bool:
    """Whether a worker would look at ``source`` for this registrar: uploaded by them, ours, or allowed by settings."""
    if uploaded_source(source, owner_label, mlflow_model_id) is not None:
        return True
    return is_readable_here(source) or allowed_source(source)


def allowed_source(source: str) -> bool:
    """Whether settings let workers read ``source``: below one of PILOTHOUSE_ARTIFACT_SOURCES, part by part."""
    prefixes: tuple[str, ...] = tuple(getattr(settings, "PILOTHOUSE_ARTIFACT_SOURCES", ()))
    text = source if "://" in source else (Path(source).as_uri() if source.startswith("/") else source)
    parts = urlsplit(unquote(text))
    if ".." in parts.path.split("/") or "%" in unquote(text) or "\0" in text or "::" in text:
        return False
    allowed = [Path(one).as_uri() if one.startswith("/") else one.rstrip("/") for one in prefixes]
    return any(text == one or text.startswith(f"{one}/") for one in allowed)


def _settle(version: ModelVersion, *, is_last: bool) -> None:
    try:
        facts = artifact_examine(version, version.source_uri, version.created_by)
    except NoSource as fault:
        version_catalogue(version_id=version.pk, message=fault.detail)
    except DomainError as fault:
        if fault.is_retryable and not is_last:
            log.info("verification_postponed", version=version.pk, code=fault.code, detail=fault.detail)
            return
        trust = Trust.MISSING if fault.code == "artifact_missing" else Trust.UNVERIFIED
        version_fail(version_id=version.pk, message=fault.detail, trust=trust)
    else:
        version_settle(version_id=version.pk, facts=facts)


def _taken(version: ModelVersion, source: str, owner_label: str) -> Manifest:
    """The source's files, in the store."""
    deadline = Deadline(MAX_SECONDS)
    uploaded = uploaded_source(source, owner_label, version.mlflow_model_id)
    if uploaded is not None:
        return upload_manifest(*uploaded)
    is_local = urlsplit(source).scheme in {"", "file"}
    if is_local and (is_readable_here(source) or allowed_source(source)):
        folder = locate(source)
        # Before copying: a folder that is no model must not be read through, a refused one not be kept.
        described = describe_mlmodel(read_mlmodel(folder))
        formats_judge(version.model, inspect_files(folder_looks(folder)), described.code)
        return folder_ingest(folder, artifact_store(), deadline)
    if not is_local and allowed_source(source):
        return url_ingest(source, artifact_store(), deadline)
    raise NoSource(
        "source_foreign",
        f"{source[:300]} is not read from here: it is kept as an entry of the catalogue. Upload the files, or let an "
        "admin add the place to PILOTHOUSE_ARTIFACT_SOURCES.",
    )


def _described(manifest: Manifest) -> Described:
    entry = manifest.file("MLmodel")
    if entry is None:
        detail = "There is no MLmodel file; give the folder that mlflow saved the model to."
        raise InvalidInput.at("/path", "mlmodel_missing", detail)
    with artifact_store().blob_open(entry.sha256) as stream:
        return describe_mlmodel(stream.read(MAX_BYTES + 1))
