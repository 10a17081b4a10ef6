"""Uploads: files that a client puts here before it registers them, each kept as a blob of the artifact store.

An area belongs to the principal that wrote to it first, and only versions registered by the same principal are read
from it, so nobody registers files that somebody else slipped in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from django.conf import settings
from django.db import transaction
from django.db.models import F

from apps.audit.services.record import event_record
from apps.kernel.actor import Actor
from apps.kernel.clock import now
from apps.kernel.errors import Forbidden, InvalidInput, NotFound
from apps.registry.domain.archives import path_problem
from apps.registry.domain.manifest import MAX_FILES, Entry, Manifest, is_left_out
from apps.registry.models import UploadArea, UploadedFile
from apps.registry.services.ingest_store import PROXY_PATH, artifact_store

UPLOADS = "uploads"
MAX_AREA_BYTES = 64 * 1024**3
KEPT_DAYS = 7
_AREA = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", re.ASCII)
_LOGGED_MODEL = re.compile(r"models:/(m-[0-9a-f]{32})", re.ASCII)


def upload_put(*, actor: Actor, area: str, path: str, stream: BinaryIO) -> UploadedFile:
    """Keep one file; the same path again replaces it. Raises InvalidInput, Forbidden and Unavailable."""
    _check_area(area)
    problem = path_problem(path)
    if problem:
        raise InvalidInput.at("/path", "bad_path", f"The path {path[:200]!r} {problem}.")
    known = UploadArea.objects.filter(pk=area).first()
    _check_owner(actor, known)
    room = MAX_AREA_BYTES - (known.size_bytes if known else 0)
    # Before the transaction: an upload may take minutes.
    try:
        sha256, size, _ = artifact_store().blob_add(stream, limit=room)
    except ValueError as error:
        raise _full(area) from error
    return _keep(actor, area, path, sha256, size)


def upload_listing(*, actor: Actor, area: str, folder: str) -> list[tuple[str, bool, int]]:
    """(name, is_dir, size) below a folder of an area. Raises NotFound (also for somebody else's area)."""
    manifest = upload_manifest(_owned(actor, area), "")
    return manifest.listing(folder) or []


def upload_file(*, actor: Actor, area: str, path: str) -> Entry:
    """One file of an area. Raises NotFound."""
    found = UploadedFile.objects.filter(area=_owned(actor, area), path=path).first()
    if found is None:
        raise NotFound("upload_unknown", f"The upload {area} has no file {path[:200]}.")
    return Entry(found.path, found.size_bytes, found.sha256)


def upload_remove(*, actor: Actor, area: str, path: str) -> int:
    """Forget a file or everything below a folder; how many files that was. Raises NotFound and Forbidden."""
    row = _owned(actor, area)
    with transaction.atomic():
        UploadArea.objects.select_for_update().get(pk=row.pk)
        files = UploadedFile.objects.filter(area=row)
        if path:
            files = files.filter(path=path) | files.filter(path__startswith=f"{path}/")
        count = files.count()
        files.delete()
        _recount(row)
        if count:
            _record(actor, "upload.removed", area, {"path": path, "files": count})
    return count


def upload_place(source: str) -> tuple[str, str] | None:
    """(area, folder) that a source names when it is one of our upload addresses, else None."""
    parts = urlsplit(source)
    ours = {*settings.ALLOWED_HOSTS, urlsplit(settings.PILOTHOUSE_BASE_URL).hostname}
    path = unquote(parts.path)
    if parts.scheme in {"http", "https"} and parts.hostname in ours:
        _, found, path = path.partition(f"{PROXY_PATH}/{UPLOADS}/")
        if not found:
            return None
    elif parts.scheme == "mlflow-artifacts" and parts.hostname in {None, *ours}:
        if not path.startswith(f"/{UPLOADS}/"):
            return None
        path = path.removeprefix(f"/{UPLOADS}/")
    else:
        return None
    area, _, folder = path.strip("/").partition("/")
    return (area, folder) if _AREA.fullmatch(area) and not (folder and path_problem(folder)) else None


def uploaded_source(source: str, owner_label: str, mlflow_model_id: str = "") -> tuple[UploadArea, str] | None:
    """The area and folder with the bytes of a source, when its registrar has uploaded them.

    Either the source is an upload address, or it is ``models:/m-…`` and that logged model lies in an area of the same
    registrar at ``…/models/m-…/artifacts``: an experiment whose artifact location is an upload address puts it there.
    """
    place = upload_place(source)
    if place is not None:
        area = UploadArea.objects.filter(pk=place[0], owner_label=owner_label).first()
        return (area, place[1]) if area is not None and _has_mlmodel(area, place[1]) else None
    match = _LOGGED_MODEL.fullmatch(source)
    wanted = match.group(1) if match else ""
    if not wanted or (mlflow_model_id and mlflow_model_id != wanted):
        return None
    ending = f"models/{wanted}/artifacts/MLmodel"
    found = UploadedFile.objects.filter(area__owner_label=owner_label).select_related("area")
    for file in found.filter(path__endswith=ending).order_by("-uploaded_at", "-id")[:20]:
        if file.path == ending or file.path.endswith(f"/{ending}"):
            return file.area, file.path.removesuffix("/MLmodel")
    return None


def upload_manifest(area: UploadArea, folder: str) -> Manifest:
    """What lies below a folder of an area, without compiled Python. Raises InvalidInput ``artifact_missing``."""
    prefix = f"{folder}/" if folder else ""
    files = UploadedFile.objects.filter(area=area, path__startswith=prefix).values_list("path", "size_bytes", "sha256")
    entries = [Entry(path[len(prefix) :], size, sha256) for path, size, sha256 in files]
    return Manifest.of(one for one in entries if not is_left_out(one.path))


def uploads_expire() -> int:
    """Forget areas that nobody has written to for KEPT_DAYS; what was registered from them stays. How many."""
    old = UploadArea.objects.filter(touched_at__lt=now() - timedelta(days=KEPT_DAYS))
    return sum(_expire(area) for area in old.order_by("touched_at")[:100])


def _expire(area: UploadArea) -> int:
    with transaction.atomic():
        locked = UploadArea.objects.select_for_update().filter(pk=area.pk, touched_at=area.touched_at)
        return int(locked.delete()[1].get("registry.UploadArea", 0))


def _keep(actor: Actor, area: str, path: str, sha256: str, size: int) -> UploadedFile:
    with transaction.atomic():
        moment = now()
        row, is_new = UploadArea.objects.select_for_update().get_or_create(
            pk=area,
            defaults={
                "owner_kind": actor.kind,
                "owner_id": actor.id,
                "owner_label": actor.label,
                "created_at": moment,
                "touched_at": moment,
            },
        )
        _check_owner(actor, row)
        if row.file_count >= MAX_FILES:
            raise _full(area)
        file, _ = UploadedFile.objects.update_or_create(
            area=row, path=path, defaults={"sha256": sha256, "size_bytes": size, "uploaded_at": moment}
        )
        # counted by hand: a sum over 100,000 files for each of them would be quadratic
        before = row.size_bytes
        UploadArea.objects.filter(pk=area).update(
            file_count=F("file_count") + 1, size_bytes=F("size_bytes") + size, touched_at=moment
        )
        if before + size > MAX_AREA_BYTES:
            raise _full(area)
        if is_new:
            _record(actor, "upload.opened", area, {})
    return file


def _recount(area: UploadArea) -> None:
    sizes = UploadedFile.objects.filter(area=area).values_list("size_bytes", flat=True)
    found: Iterable[int] = list(sizes)
    UploadArea.objects.filter(pk=area.pk).update(file_count=len(list(found)), size_bytes=sum(found), touched_at=now())


def _has_mlmodel(area: UploadArea, folder: str) -> bool:
    path = f"{folder}/MLmodel" if folder else "MLmodel"
    return UploadedFile.objects.filter(area=area, path=path).exists()


def _owned(actor: Actor, area: str) -> UploadArea:
    """Raises NotFound: somebody else's area looks like none."""
    row = UploadArea.objects.filter(pk=area, owner_kind=actor.kind, owner_id=actor.id).first()
    if row is None:
        raise NotFound("upload_unknown", f"You have no upload {area[:80]}.")
    return row


def _check_owner(actor: Actor, area: UploadArea | None) -> None:
    if area is not None and (area.owner_kind, area.owner_id) != (actor.kind, actor.id):
        raise Forbidden("upload_taken", f"The upload {area.pk} belongs to somebody else; take another name for yours.")


def _check_area(area: str) -> None:
    if not _AREA.fullmatch(area):
        detail = "An upload's name has 1 to 80 letters, digits, dots, hyphens or underscores."
        raise InvalidInput.at("/area", "bad_upload", detail)


def _full(area: str) -> InvalidInput:
    detail = f"The upload {area} is full: at most {MAX_FILES:,} files and {MAX_AREA_BYTES:,} bytes."
    return InvalidInput.at("/area", "upload_full", detail)


def _record(actor: Actor, verb: str, area: str, detail: dict[str, object]) -> None:
    event_record(actor=actor, verb=verb, subject_kind="upload", subject_id=area, subject_label=area, detail=detail)
