"""Imports as they are read: which ones, how far they are, and which versions stayed without their files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Q, QuerySet

from apps.accounts.selectors import team_list
from apps.kernel.actor import Actor
from apps.kernel.errors import NotFound
from apps.registry.domain.importing import sources_line
from apps.registry.domain.words import ModelKind, Trust, VersionStatus
from apps.registry.models import ImportedModel, ImportJob, ModelVersion
from apps.registry.selectors import readable_teams

COUNTS = ("models", "versions", "written", "skipped")
LEFT_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Left:
    """One version that is an entry of the catalogue only, and why."""

    model: str
    version: str
    reason: str


@dataclass(frozen=True, slots=True)
class Files:
    """How many versions of an import have their files here, still wait for them, or stayed without.

    ``left`` names the first LEFT_SHOWN of the last ones; ``line`` is the setting that would let workers read where
    those lie ("" when there is none).
    """

    here: int = 0
    waiting: int = 0
    missing: int = 0
    left: tuple[Left, ...] = ()
    line: str = ""


def import_list(actor: Actor) -> QuerySet[ImportJob]:
    """The imports for teams that the actor may read, unordered."""
    teams = readable_teams(actor)
    if teams is None:
        return ImportJob.objects.all()
    return ImportJob.objects.filter(team_key__in=team_list().filter(pk__in=teams).values("slug"))


def import_get(job_id: str, *, actor: Actor) -> ImportJob:
    """Raises NotFound."""
    job = import_list(actor).filter(pk=job_id).first()
    if job is None:
        raise NotFound("import_unknown", f"There is no import {job_id}.")
    return job


def import_files(job: ImportJob) -> Files:
    """One query for an import that left nothing behind, three for others."""
    wanted = Q(model__imported__files_due_at__isnull=False)
    lacks = ~Q(trust=Trust.VERIFIED)
    mine = ModelVersion.objects.filter(
        model__imported__job=job, model__kind=ModelKind.MODEL, model__deleted_at=None, status=VersionStatus.READY
    )
    counted = mine.aggregate(
        here=Count("pk", filter=~lacks),
        waiting=Count("pk", filter=lacks & wanted),
        missing=Count("pk", filter=lacks & ~wanted),
    )
    if not counted["missing"]:
        return Files(**counted)
    rows = mine.filter(lacks & ~wanted).select_related("model").order_by("model__name", "number")
    left = tuple(Left(one.model.name, one.reference, _reason(job, one)) for one in rows[:LEFT_SHOWN])
    return Files(**counted, left=left, line=sources_line(_places(job)) if job.with_artifacts else "")


def import_show(job: ImportJob, files: Files | None = None) -> dict[str, Any]:
    """What a page or the API says of a job; never its credential. ``files`` where they were counted already."""
    files = files or import_files(job)
    return {
        "id": job.pk,
        "object": "import",
        "url": job.url,
        "team": job.team_key,
        "state": job.state,
        "with_artifacts": job.with_artifacts,
        "sync_seconds": job.sync_seconds,
        "run": job.run,
        "counts": counts_shown(job),
        "skipped": job.skipped,
        "files": {
            "here": files.here,
            "waiting": files.waiting,
            "missing": files.missing,
            "left": [{"model": one.model, "version": one.version, "reason": one.reason} for one in files.left],
            "way_out": way_out(job, files),
        },
        "error": job.error,
        "has_credential": bool(job.credential),
    }


def counts_shown(job: ImportJob) -> dict[str, int]:
    return {name: int(job.counts.get(name, 0)) for name in COUNTS}


def way_out(job: ImportJob, files: Files) -> str:
    """How the versions without files get them; "" where none is missing."""
    if not files.missing:
        return ""
    if not job.with_artifacts:
        return "Run the import again and let it bring the files along."
    allowed = f"Where workers can read these places, start Pilothouse with {files.line} and run the import again. "
    return f"{allowed if files.line else ''}Or send a version's files: its page has the lines to copy."


def _reason(job: ImportJob, version: ModelVersion) -> str:
    if version.status_message or job.with_artifacts:
        return version.status_message or f"Its files lie at {version.source_uri[:500]} and were not brought."
    return "Its files were not asked for."


def _places(job: ImportJob) -> list[str]:
    left = ImportedModel.objects.filter(job=job, model__deleted_at=None).exclude(files_left={})
    return [place for found in left.values_list("files_left", flat=True) for place in found.values()]
