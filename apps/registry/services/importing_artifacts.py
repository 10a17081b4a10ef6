"""The files of imported versions, where they can be reached: through the other server's proxy, or by an allowed URL."""

from __future__ import annotations

import io

import structlog

from apps.kernel.actor import SYSTEM
from apps.kernel.errors import DomainError
from apps.kernel.vault import Place, open_sealed
from apps.registry.domain.words import ModelKind, Trust, VersionStatus
from apps.registry.drivers.mlflow_registry import MlflowRegistry
from apps.registry.models import ImportedModel, ImportJob, ModelVersion
from apps.registry.services.ingest import UPLOADS, upload_put
from apps.registry.services.verify import allowed_source
from apps.registry.services.verify_ingest import version_ingest

log = structlog.get_logger(__name__)


def import_artifacts(*, job_id: str, remote_name: str) -> int:
    """Bring in the files of a model's unverified versions; how many versions have them now.

    What cannot be reached stays a catalogue entry. Run again it goes on with what is missing.
    """
    known = ImportedModel.objects.select_related("job", "model").filter(job=job_id, remote_name=remote_name).first()
    if known is None or known.model.kind == ModelKind.PROMPT:
        return 0
    remote = _remote(known.job)
    waiting = ModelVersion.objects.filter(model=known.model, trust=Trust.UNVERIFIED, status=VersionStatus.READY)
    for version in waiting.order_by("number"):
        try:
            _bring(remote, known, version)
        except DomainError as fault:
            log.info("import_artifact_left", version=version.pk, code=fault.code, detail=fault.detail)
    return ModelVersion.objects.filter(model=known.model, trust=Trust.VERIFIED).count()


def _bring(remote: MlflowRegistry, known: ImportedModel, version: ModelVersion) -> None:
    uri = remote.download_uri(known.remote_name, version.number)
    root = remote.proxied(uri)
    if root is None:
        if allowed_source(uri):
            version_ingest(version_id=version.pk, source=uri, owner_label=SYSTEM.label)
        return
    area = f"import-{version.pk}"
    for path in remote.files(root):
        upload_put(actor=SYSTEM, area=area, path=path, stream=io.BytesIO(remote.file(root, path)))
    source = f"mlflow-artifacts:/{UPLOADS}/{area}"
    version_ingest(version_id=version.pk, source=source, owner_label=SYSTEM.label)


def _remote(job: ImportJob) -> MlflowRegistry:
    place = Place("registry_importjob", str(job.pk), "credential")
    credential = open_sealed(job.credential, place) if job.credential else ""
    return MlflowRegistry(job.url, username=job.username, credential=credential)
