"""The files of imported versions, where they can be reached: handed out by the other server, or by an allowed URL.

A model whose files are wanted has ``files_due_at``. It is cleared when each of its versions was tried; a version that
stays without its files says why, and the import remembers where they lie.
"""

from __future__ import annotations

import io
from datetime import datetime, timedelta

import structlog
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet

from apps.kernel.actor import SYSTEM
from apps.kernel.clock import now
from apps.kernel.errors import DomainError, Unavailable
from apps.kernel.services.outbox import enqueue_task
from apps.kernel.vault import Place, open_sealed
from apps.registry.domain.importing import reason_left
from apps.registry.domain.words import ModelKind, Trust, VersionStatus
from apps.registry.drivers.mlflow_files import Door, Sought, file, files, page_door, proxy_door
from apps.registry.drivers.mlflow_registry import MlflowRegistry
from apps.registry.models import ImportedModel, ImportJob, ModelVersion
from apps.registry.services.announce import version_record
from apps.registry.services.ingest import UPLOADS, upload_put
from apps.registry.services.locks import held_alone, version_settling
from apps.registry.services.verify import allowed_source
from apps.registry.services.verify_ingest import version_ingest

log = structlog.get_logger(__name__)

MAX_ATTEMPTS = 4
GRACE_SECONDS = 900
"""How long a doorbell has, before the clock rings again for the same model."""
_LOCK_SPACE = 0x4946


class NotHandedOut(Unavailable):
    """Neither the server nor this installation reads the place where the files lie."""


def files_want(job: ImportJob, remote_name: str) -> None:
    """Ring for the files of a model that has versions nobody has tried, or for which somebody asked again."""
    mine = ImportedModel.objects.filter(job=job, remote_name=remote_name, model__kind=ModelKind.MODEL).first()
    if mine is None:
        return
    if mine.files_due_at is None:
        lacking = _lacking(mine.model_id).values_list("number", flat=True)
        if all(str(number) in mine.files_left for number in lacking):
            return
    with transaction.atomic():
        ImportedModel.objects.filter(pk=mine.pk).update(files_due_at=_later(GRACE_SECONDS), files_attempts=0)
        enqueue_task("registry.import_artifacts", job_id=job.pk, remote_name=remote_name)


def files_want_again(job: ImportJob) -> None:
    """Every version without its files is tried again, by the run that follows."""
    lacking = _lacking(OuterRef("model"))
    models = ImportedModel.objects.filter(job=job, model__kind=ModelKind.MODEL).filter(Exists(lacking))
    models.update(files_due_at=_later(GRACE_SECONDS), files_attempts=0)


def files_stop(job: ImportJob) -> None:
    """What is not here yet is not brought any more."""
    ImportedModel.objects.filter(job=job, files_due_at__isnull=False).update(files_due_at=None)


def import_files_due() -> int:
    """Ring for models whose doorbell was lost, whose worker died, or that are to be tried again; how many."""
    due = ImportedModel.objects.filter(files_due_at__lte=now()).order_by("files_due_at")
    found = list(due.values_list("pk", "job_id", "remote_name")[:20])
    with transaction.atomic():
        for pk, job_id, remote_name in found:
            ImportedModel.objects.filter(pk=pk).update(files_due_at=_later(GRACE_SECONDS))
            enqueue_task("registry.import_artifacts", job_id=job_id, remote_name=remote_name)
    return len(found)


def import_artifacts(*, job_id: str, remote_name: str) -> int:
    """Bring in the files of a model's unverified versions; how many versions have them now.

    What cannot be reached stays a catalogue entry that says why. A repeated or late call changes nothing.
    """
    mine = ImportedModel.objects.filter(job=job_id, remote_name=remote_name).only("pk").first()
    if mine is None:
        return 0
    with held_alone(_LOCK_SPACE, str(mine.pk)) as is_mine:
        known = ImportedModel.objects.select_related("job", "model").filter(pk=mine.pk).first() if is_mine else None
        if known is None or known.files_due_at is None:
            return 0
        _all(known)
    return ModelVersion.objects.filter(model=known.model, trust=Trust.VERIFIED).count()


def _all(known: ImportedModel) -> None:
    remote, tried, is_to_repeat = _remote(known.job), {}, False
    attempts = known.files_attempts + 1
    ImportedModel.objects.filter(pk=known.pk).update(files_attempts=attempts)  # before: one may kill its worker
    for version in _lacking(known.model_id).select_related("model").order_by("number"):
        if not ImportedModel.objects.filter(pk=known.pk, files_due_at__isnull=False).exists():
            return  # somebody stopped it
        place, fault = _tried(remote, known, version, attempts)
        if fault is not None and fault.is_retryable and attempts < MAX_ATTEMPTS:
            is_to_repeat = True
            continue
        if fault is not None:
            _leave(version.pk, place, fault)
        tried[version.number] = place
    lacking = _lacking(known.model_id).filter(number__in=list(tried)).values_list("number", flat=True)
    # A wish that came meanwhile has another moment, and is left for the clock.
    ImportedModel.objects.filter(pk=known.pk, files_due_at=known.files_due_at).update(
        files_due_at=_later(10 * 2**attempts) if is_to_repeat else None,
        files_left={str(number): tried[number] for number in lacking},
    )


def _tried(
    remote: MlflowRegistry, known: ImportedModel, version: ModelVersion, attempts: int
) -> tuple[str, DomainError | None]:
    """Where the files lie, and why they did not come."""
    place = version.source_uri
    if attempts > MAX_ATTEMPTS:
        return place, Unavailable("import_files_left", f"Its files could not be brought in {MAX_ATTEMPTS} attempts.")
    try:
        place = remote.download_uri(known.remote_name, version.number) or place
        _bring(remote, known, version, place)
    except DomainError as fault:
        log.info("import_artifact_left", version=version.pk, code=fault.code, detail=fault.detail)
        return place, fault
    return place, None


def _bring(remote: MlflowRegistry, known: ImportedModel, version: ModelVersion, uri: str) -> None:
    """Raises DomainError for what cannot be had; what was had and is refused says so on the version itself."""
    door = proxy_door(remote, uri)
    if door is None and allowed_source(uri):
        version_ingest(version_id=version.pk, source=uri, owner_label=SYSTEM.label)
        return
    if door is None:
        door = page_door(remote, _sought(known, version, uri))
    if door is None:
        raise NotHandedOut("import_files_left", reason_left(remote.url, uri))
    area = f"import-{version.pk}"
    if not _uploaded(remote, door, area):
        raise NotHandedOut("import_files_left", f"{remote.url} lists no files at {uri[:500]}.")
    source = f"mlflow-artifacts:/{UPLOADS}/{area}"
    version_ingest(version_id=version.pk, source=source, owner_label=SYSTEM.label)


def _uploaded(remote: MlflowRegistry, door: Door, area: str) -> int:
    """How many files were put into the area."""
    count = 0
    for path in files(remote, door):
        upload_put(actor=SYSTEM, area=area, path=path, stream=io.BytesIO(file(remote, door, path)))
        count += 1
    return count


def _leave(version_id: str, place: str, fault: DomainError) -> None:
    """The version says why it is without its files."""
    with transaction.atomic():
        row = version_settling(version_id)
        reason = fault.detail[:4000]
        if row.trust != Trust.UNVERIFIED or row.status_message == reason:
            return
        row.status_message = reason
        row.save(update_fields=["status_message"])
        told = {"source": place, "code": fault.code, "detail": reason}
        version_record(SYSTEM, "version.ingest_failed", row.model, row, **told)


def _lacking(model_id: str | OuterRef) -> QuerySet[ModelVersion]:
    return ModelVersion.objects.filter(model=model_id, trust=Trust.UNVERIFIED, status=VersionStatus.READY)


def _sought(known: ImportedModel, version: ModelVersion, uri: str) -> Sought:
    return Sought(
        name=known.remote_name,
        number=version.number,
        uri=uri,
        source=version.source_uri,
        run_id=version.run_id,
        model_id=version.mlflow_model_id,
    )


def _later(seconds: int) -> datetime:
    return now() + timedelta(seconds=seconds)


def _remote(job: ImportJob) -> MlflowRegistry:
    place = Place("registry_importjob", str(job.pk), "credential")
    credential = open_sealed(job.credential, place) if job.credential else ""
    return MlflowRegistry(job.url, username=job.username, credential=credential)
