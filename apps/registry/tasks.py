"""Doorbells of the registry: verify a version, tell a webhook. A lost, repeated or late one changes nothing."""

from __future__ import annotations

from celery import shared_task

from apps.registry.services import verify
from apps.registry.services.importing import import_due, import_run
from apps.registry.services.importing_artifacts import import_artifacts, import_files_due
from apps.registry.services.ingest import uploads_expire
from apps.registry.services.verify_ingest import version_ingest
from apps.registry.services.webhooks import deliveries_due, webhook_send

# Hashing gigabytes takes longer than other tasks may. The broker hands the message out again meanwhile; whoever gets it
# finds the lock taken and leaves.
LONG = {"time_limit": 1800, "soft_time_limit": 1700}


@shared_task(name="registry.verify_version", **LONG)  # type: ignore[untyped-decorator]
def verify_version(version_id: str) -> None:
    verify.version_verify(version_id)


@shared_task(name="registry.send_webhook")  # type: ignore[untyped-decorator]
def send_webhook(delivery_id: str) -> None:
    webhook_send(delivery_id)


@shared_task(name="registry.send_webhooks_due")  # type: ignore[untyped-decorator]
def send_webhooks_due() -> None:
    """Rung by the clock: the attempts that are due again."""
    for delivery in deliveries_due():
        webhook_send(delivery)


@shared_task(name="registry.verify_due", **LONG)  # type: ignore[untyped-decorator]
def verify_due() -> int:
    """Rung by the clock: versions whose doorbell was lost or whose worker died."""
    return verify.verify_due()


@shared_task(name="registry.ingest_version", **LONG)  # type: ignore[untyped-decorator]
def ingest_version(version_id: str, source: str, owner_label: str) -> None:
    version_ingest(version_id=version_id, source=source, owner_label=owner_label)


@shared_task(name="registry.expire_uploads")  # type: ignore[untyped-decorator]
def expire_uploads() -> int:
    """Rung by the clock: uploads that were never registered."""
    return uploads_expire()


@shared_task(name="registry.import_run")  # type: ignore[untyped-decorator]
def run_import(job_id: str) -> None:
    import_run(job_id)


@shared_task(name="registry.import_due")  # type: ignore[untyped-decorator]
def imports_due() -> int:
    """Rung by the clock: imports to go on with, to repeat, or to keep in step, and their files."""
    return import_due() + import_files_due()


@shared_task(name="registry.import_artifacts", **LONG)  # type: ignore[untyped-decorator]
def run_import_artifacts(job_id: str, remote_name: str) -> int:
    return import_artifacts(job_id=job_id, remote_name=remote_name)
