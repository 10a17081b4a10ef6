"""What a registration would give, before anything is registered: digest, format, signature, semver, what is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from apps.kernel.actor import Actor
from apps.kernel.errors import DomainError, InvalidInput
from apps.kernel.roots import path_below
from apps.registry.domain.inspection import Inspection, inspect_files, refusals
from apps.registry.domain.manifest import Entry
from apps.registry.domain.mlmodel import MAX_BYTES, describe_mlmodel
from apps.registry.domain.signature import Signature
from apps.registry.drivers.artifacts import read_inspected
from apps.registry.models import Model, ModelVersion, UploadArea
from apps.registry.selectors.pages import Offer, semver_offer
from apps.registry.services.ingest import UPLOADS, upload_manifest
from apps.registry.services.ingest_store import PROXY_PATH, artifact_store
from apps.registry.services.register import Seen
from apps.registry.services.settle import number_semver
from apps.registry.services.verify import is_read_here
from apps.registry.services.verify_policy import format_policy_of
from apps.registry.web.shown import Badge, badge_of, inputs_shown

FILES_SHOWN = 12
HOWS = {
    "upload": "Uploaded. Once registered a worker checks the files again and keeps them in the store.",
    "path": "Read where it lies. It stays there and is compared with this digest before each use.",
    "worker": "A worker reads it once it is registered: digest, signature, format and semver follow from there.",
    "catalogue": "This place is not read from here. It becomes an entry of the catalogue, unverified, and cannot be "
    "deployed until its bytes are here.",
    "copy": "A version of this registry: what is known of it is copied, bytes and digest stay the same.",
}


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """``offer`` is None where the signature is not known before registration; ``refused`` are sentences."""

    how: str
    source: str
    said: str
    digest: str = ""
    size: int = 0
    file_count: int = 0
    files: Sequence[Entry] = ()
    badge: Badge | None = None
    pickles: Sequence[Mapping[str, Any]] = ()
    flavor: str = ""
    inputs: Sequence[Mapping[str, Any]] = ()
    outputs: Sequence[Mapping[str, Any]] = ()
    offer: Offer | None = None
    chosen: str = ""
    refused: tuple[str, ...] = ()
    semver_fault: str = ""
    seen: Seen | None = field(default=None, repr=False)


def rehearse_upload(area: UploadArea, model: Model, *, is_new: bool, semver: str) -> Rehearsal:
    """Of what lies in an area. ``model`` may be unsaved. Raises InvalidInput (MLmodel, signature)."""
    manifest, store = upload_manifest(area, ""), artifact_store()
    entry = manifest.file("MLmodel")
    if entry is None:
        raise InvalidInput.at("/files", "mlmodel_missing", "The upload has no MLmodel file; choose the files again.")
    with store.blob_open(entry.sha256) as stream:
        described = describe_mlmodel(stream.read(MAX_BYTES + 1))
    inspection = inspect_files(store.looks(manifest))
    source = f"{settings.PILOTHOUSE_BASE_URL.rstrip('/')}{PROXY_PATH}/{UPLOADS}/{area.pk}"
    return _judged(
        Rehearsal(
            how="upload",
            source=source,
            said=HOWS["upload"],
            digest=manifest.digest,
            size=manifest.size,
            file_count=len(manifest.entries),
            files=manifest.entries[:FILES_SHOWN],
            flavor=described.flavor,
        ),
        (described.signature, described.input_constraints),
        inspection,
        described.code,
        (model, is_new, semver),
    )


def rehearse_source(actor: Actor, source: str, model: Model, *, is_new: bool, semver: str) -> Rehearsal:
    """Of a path or address. A path below PILOTHOUSE_ARTIFACT_ROOTS is read now; no address is followed from here.

    Raises InvalidInput at ``/source``.
    """
    if not source:
        raise InvalidInput.at("/source", "required", "Choose files, or say where the model lies.")
    if urlsplit(source).scheme not in {"", "file"}:
        is_copy = source.startswith("models:/") and not source.startswith("models:/m-")
        how = "copy" if is_copy else "worker" if is_read_here(source, actor.label) else "catalogue"
        return Rehearsal(how=how, source=source, said=HOWS[how])
    try:
        path_below("/source", source, setting="PILOTHOUSE_ARTIFACT_ROOTS")
        artifact, inspection, code = read_inspected(Path(source) if source.startswith("/") else source)
    except DomainError as fault:
        raise InvalidInput.at("/source", fault.code, fault.detail) from fault
    found = Rehearsal(
        how="path",
        source=source,
        said=HOWS["path"],
        digest=artifact.digest,
        size=artifact.size_bytes,
        file_count=len(inspection.files),
        flavor=artifact.flavor,
        seen=Seen(artifact, inspection, code),
    )
    return _judged(found, (artifact.signature, artifact.input_constraints), inspection, code, (model, is_new, semver))


def _judged(
    found: Rehearsal,
    signed: tuple[dict[str, Any], dict[str, Any]],
    inspection: Inspection,
    code: Sequence[str],
    wanted: tuple[Model, bool, str],
) -> Rehearsal:
    """With format, signature, semver, and everything that would be refused."""
    model, is_new, semver = wanted
    signature, constraints = signed
    about = ModelVersion(
        model=model, format=inspection.format.value, signature=signature, input_constraints=constraints
    )
    offer = semver_offer(None if is_new else model, Signature.of(signature, constraints))
    chosen, fault = str(offer.semver), ""
    if semver:
        about.semver_wanted = semver
        try:
            number_semver(about)
            chosen = about.semver
        except DomainError as error:
            fault = error.detail
    return Rehearsal(
        **{name: getattr(found, name) for name in ("how", "source", "said", "digest", "size", "file_count", "files")},
        flavor=found.flavor,
        seen=found.seen,
        badge=badge_of(about),
        pickles=inspection.as_dict()["pickles"],
        inputs=inputs_shown(signature, constraints),
        outputs=signature.get("outputs", []),
        offer=offer,
        chosen=chosen,
        refused=tuple(refusals(inspection, format_policy_of(model), code=code)),
        semver_fault=fault,
    )
