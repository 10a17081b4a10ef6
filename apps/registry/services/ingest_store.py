"""The artifact store of this installation, and a version's bytes out of it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from django.conf import settings
from django.db import transaction

from apps.audit.services.record import event_record
from apps.kernel.actor import SYSTEM
from apps.kernel.clock import now
from apps.kernel.errors import NotFound, PolicyRefused
from apps.registry.domain.manifest import Entry, Manifest, hex_of
from apps.registry.domain.words import Trust
from apps.registry.drivers.store import ArtifactStore, Damaged
from apps.registry.models import ModelVersion

PROXY_PATH = "/api/2.0/mlflow-artifacts/artifacts"
CACHED_TREES = 128


def artifact_store() -> ArtifactStore:
    """By PILOTHOUSE_ARTIFACT_STORE (any fsspec URL); without it a folder of this installation."""
    home = Path(settings.PILOTHOUSE_HOME)
    url = getattr(settings, "PILOTHOUSE_ARTIFACT_STORE", "") or str(home / "artifacts")
    return _store(url, home / "artifacts" / "checkouts")


@lru_cache(maxsize=8)
def _store(url: str, checkouts: Path) -> ArtifactStore:
    return ArtifactStore(url, checkouts)


def is_in_store(storage_uri: str) -> bool:
    """Whether a version's bytes were taken into the store (told from the text alone)."""
    checkouts = Path(settings.PILOTHOUSE_HOME) / "artifacts" / "checkouts"
    return storage_uri.startswith(f"{checkouts.as_uri()}/")


def artifact_url(digest: str) -> str:
    """Where any MLflow client fetches the bytes of a digest from, whatever its tracking server is."""
    return f"{settings.PILOTHOUSE_BASE_URL.rstrip('/')}{PROXY_PATH}/{hex_of(digest)}"


def artifact_tree(digest: str) -> Manifest:
    """What the store holds under a digest. Raises NotFound and PolicyRefused ``artifact_damaged``."""
    name = hex_of(digest)
    found = _tree(name) if name else None
    if found is None:
        raise NotFound("artifact_unknown", f"The store holds no artifact {digest[:80]}.")
    return found


def artifact_chunks(digest: str, path: str) -> tuple[Entry, Iterator[bytes]]:
    """One file of an artifact, compared with its hash on the way: the entry and its bytes in pieces.

    Raises NotFound; PolicyRefused ``artifact_damaged`` at once for a file of up to 4 MiB, while reading a larger one
    (all but its end was handed out then). A damaged file is recorded, and the versions that have it lose their trust.
    """
    digest = f"sha256:{hex_of(digest)}"
    entry = artifact_tree(digest).file(path)
    if entry is None:
        raise NotFound("artifact_file_unknown", f"The artifact has no file {path[:200]}.")
    chunks = _guarded(digest, entry)
    first = next(chunks, b"")  # a small damaged file is refused here, before any answer has begun
    return entry, _with_first(first, chunks)


def artifact_open(version: ModelVersion, path: str) -> tuple[Entry, Iterator[bytes]]:
    """The same for a version."""
    return artifact_chunks(version.artifact_digest, path)


def artifact_fetch(version: ModelVersion, folder: Path) -> None:
    """Write a version's files below ``folder``, which must not exist. Raises NotFound and PolicyRefused."""
    manifest = artifact_tree(version.artifact_digest)
    try:
        artifact_store().fetch(manifest, folder)
    except Damaged as damage:
        raise _damaged(version.artifact_digest, damage) from damage


def artifact_checkout(version: ModelVersion) -> Path:
    """The folder on this machine with a version's files, made again where gone. Raises NotFound, PolicyRefused."""
    manifest = artifact_tree(version.artifact_digest)
    try:
        return artifact_store().checkout(manifest)
    except Damaged as damage:
        raise _damaged(version.artifact_digest, damage) from damage


def _tree(name: str) -> Manifest | None:
    try:
        return _cached_tree(artifact_store(), name)
    except KeyError:
        return None
    except Damaged as damage:
        raise _damaged(f"sha256:{name}", damage) from damage


@lru_cache(maxsize=CACHED_TREES)
def _cached_tree(store: ArtifactStore, name: str) -> Manifest:
    """A manifest never changes under its digest. Raises KeyError, which is not cached: it may come."""
    found = store.tree_get(name)
    if found is None:
        raise KeyError(name)
    return found


def _guarded(digest: str, entry: Entry) -> Iterator[bytes]:
    try:
        yield from artifact_store().blob_read(entry.sha256, entry.size)
    except Damaged as damage:
        raise _damaged(digest, damage, entry.path) from damage


def _with_first(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from rest


def _damaged(digest: str, damage: Damaged, path: str = "") -> PolicyRefused:
    """Record it once per version, take the trust away and the blob out; the error for whoever was reading."""
    artifact_store().set_aside(damage.sha256)
    with transaction.atomic():
        found = ModelVersion.everything.select_for_update(of=("self",)).select_related("model")
        for version in found.filter(artifact_digest=digest, trust=Trust.VERIFIED).order_by("id"):
            version.trust, version.updated_at = Trust.MISSING, now()
            version.inspection = {**version.inspection, "damage": {"path": path, "sha256": damage.sha256}}
            version.save(update_fields=["trust", "updated_at", "inspection"])
            event_record(
                actor=SYSTEM,
                verb="artifact.damaged",
                subject_kind="version",
                subject_id=version.id,
                subject_label=f"{version.model.name} {version.reference}",
                detail={"digest": digest, "path": path, "sha256": damage.sha256, "found": str(damage)},
            )
    named = f" ({path})" if path else ""
    return PolicyRefused(
        "artifact_damaged",
        f"The stored artifact {digest} is damaged{named}: {damage}. It is not handed out; ingest its bytes again.",
        extra={"digest": digest},
    )
