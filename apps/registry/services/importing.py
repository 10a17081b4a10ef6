"""Importing another MLflow server's registry: jobs that go page by page, survive a killed worker, and may be repeated.

A run writes only what differs, so a second run writes nothing. Each page is worked on under the session's lock of its
job; where the run stands is in the row, and a page that was interrupted is simply done again. Nothing is deleted here
because it is gone there.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import structlog
from django.db import IntegrityError, transaction
from django.db.models import Q

from apps.accounts.selectors import team_get
from apps.accounts.services.access import access_require, team_for
from apps.audit.services.record import event_record
from apps.kernel.actor import SYSTEM, Actor
from apps.kernel.clock import now
from apps.kernel.errors import Conflict, DomainError, InvalidInput, NotFound
from apps.kernel.services.outbox import enqueue_task
from apps.kernel.vault import Place, open_sealed, seal, sealed_field
from apps.registry.domain.importing import ImportState, remote_model
from apps.registry.drivers.mlflow_registry import MlflowRegistry, check_callable
from apps.registry.models import ImportJob
from apps.registry.selectors.imports import counts_shown, import_get
from apps.registry.services.importing_artifacts import files_stop, files_want, files_want_again
from apps.registry.services.importing_write import ModelSkipped, model_import
from apps.registry.services.locks import held_alone

log = structlog.get_logger(__name__)

IMPORT = "registry.import"
RUN_SECONDS = 45.0
MAX_ATTEMPTS = 10
MAX_SKIPPED = 500
MIN_SYNC_SECONDS = 60
_LOCK_SPACE = 0x496D
_MODELS, _PROMPTS = "models:", "prompts:"
_ZERO = {"models": 0, "versions": 0, "written": 0, "skipped": 0}

sealed_field("registry.ImportJob", "credential")


def import_create(
    *,
    actor: Actor,
    url: str,
    username: str = "",
    credential: str = "",
    team: str = "",
    with_artifacts: bool = False,
    sync_seconds: int = 0,
) -> ImportJob:
    """Set up an import whose models ``team`` (id or slug) will own, and start it; without a team, the one that the
    actor imports for. Raises InvalidInput (also for a server that is not called from here), Forbidden and Conflict
    ``import_exists``."""
    _check_url(url)
    if sync_seconds and sync_seconds < MIN_SYNC_SECONDS:
        raise InvalidInput.at("/sync_seconds", "too_often", f"At least {MIN_SYNC_SECONDS} seconds, or 0 for once.")
    owner = _owner(actor, team)
    check_callable(url)
    moment = now()
    with transaction.atomic():
        job = ImportJob(
            url=url.rstrip("/"),
            username=username,
            team_key=owner,
            with_artifacts=with_artifacts,
            sync_seconds=sync_seconds,
            due_at=moment,
            created_at=moment,
            created_by=actor.label,
        )
        job.credential = seal(credential, _place(job)) if credential else ""
        try:
            with transaction.atomic():
                job.save(force_insert=True)
        except IntegrityError as error:
            raise Conflict("import_exists", f"{job.url} is imported from already; run that import again.") from error
        enqueue_task("registry.import_run", job_id=job.pk)
        _record(
            actor,
            "import.created",
            job,
            {"with_artifacts": with_artifacts, "sync_seconds": sync_seconds, "team": job.team_key},
        )
    return job


def import_again(
    *, actor: Actor, job_id: str, sync_seconds: int | None = None, with_artifacts: bool | None = None
) -> ImportJob:
    """Run a finished, failed or stopped import once more; what is None stays as it is. Files that are missing are
    tried again. Raises NotFound, Forbidden, InvalidInput (not called from here), Conflict ``import_running``."""
    check_callable(import_get(job_id, actor=actor).url)
    with transaction.atomic():
        job = _allowed(actor, job_id)
        if job.state == ImportState.RUNNING:
            raise Conflict("import_running", "It is running.", extra={"counts": counts_shown(job)})
        job.state, job.due_at, job.attempts, job.error = ImportState.WAITING, now(), 0, ""
        if sync_seconds is not None:
            job.sync_seconds = sync_seconds
        if with_artifacts is not None:
            job.with_artifacts = with_artifacts
        job.save()
        if job.with_artifacts:
            files_want_again(job)
        enqueue_task("registry.import_run", job_id=job.pk)
        told = {"again": True, "sync_seconds": job.sync_seconds, "with_artifacts": job.with_artifacts}
        _record(actor, "import.created", job, told)
    return job


def import_stop(*, actor: Actor, job_id: str) -> ImportJob:
    """End a run after the model it is at, its repetitions and its files. Raises NotFound and Forbidden."""
    with transaction.atomic():
        job = _allowed(actor, job_id)
        if job.state != ImportState.STOPPED:
            job.state, job.sync_seconds = ImportState.STOPPED, 0
            job.save(update_fields=["state", "sync_seconds"])
            files_stop(job)
            _record(actor, "import.stopped", job, {"counts": counts_shown(job)})
    return job


def import_due() -> int:
    """Ring for every job that waits, was interrupted, or is to be repeated; how many."""
    unfinished = Q(state__in=[ImportState.WAITING, ImportState.RUNNING])
    repeated = Q(state=ImportState.DONE, sync_seconds__gt=0)
    due = ImportJob.objects.filter(unfinished | repeated, due_at__lte=now()).order_by("due_at")
    ids = list(due.values_list("pk", flat=True)[:10])
    for job_id in ids:
        import_run(job_id)
    return len(ids)


def import_run(job_id: str) -> None:
    """Work on a job for up to RUN_SECONDS, then ring again. A repeated or late call changes nothing."""
    with held_alone(_LOCK_SPACE, job_id) as is_mine:
        job = ImportJob.objects.filter(pk=job_id).first() if is_mine else None
        if job is None or job.state in {ImportState.STOPPED, ImportState.FAILED} or job.due_at > now():
            return
        if job.state == ImportState.DONE and not job.sync_seconds:
            return
        if job.state != ImportState.RUNNING:
            _begin(job)
        try:
            _work(job, time.monotonic() + RUN_SECONDS)
        except DomainError as fault:
            _stumble(job, fault)


def _work(job: ImportJob, until: float) -> None:
    credential = open_sealed(job.credential, _place(job)) if job.credential else ""
    remote = MlflowRegistry(job.url, username=job.username, credential=credential)
    while time.monotonic() < until:
        if not _page(job, remote):
            return
    with transaction.atomic():
        enqueue_task("registry.import_run", job_id=job.pk)


def _page(job: ImportJob, remote: MlflowRegistry) -> bool:
    """One page; False when the run is over."""
    prompts = job.cursor.startswith(_PROMPTS)
    token = job.cursor.removeprefix(_PROMPTS if prompts else _MODELS)
    counts = dict(job.counts.get("page", _ZERO))  # an interrupted page is counted once
    shown, following = remote.models_page(token, prompts=prompts)
    for one in shown:
        name = str(one.get("name") or "")
        _one(job, remote, name, counts, prompts=prompts)
        if not _progress(job, counts):
            return False
    if following:
        return _turn(job, (_PROMPTS if prompts else _MODELS) + following, counts)
    if not prompts:
        return _turn(job, _PROMPTS, counts)
    _finish(job, counts)
    return False


def _one(job: ImportJob, remote: MlflowRegistry, name: str, counts: dict[str, int], *, prompts: bool) -> None:
    """A model that cannot be taken over is skipped with its reason; a server that fails ends the page."""
    try:
        found = remote_model(remote.model(name), list(remote.versions(name, prompts=prompts)))
        done = model_import(job, found)
    except (ModelSkipped, InvalidInput) as fault:
        _skip(job, name, fault.detail)
        counts["skipped"] += 1
        return
    except DomainError as fault:
        if fault.code not in {"remote_name", "remote_status"} or fault.is_retryable:
            raise
        _skip(job, name, fault.detail)
        counts["skipped"] += 1
        return
    counts["models"] += 1
    counts["versions"] += len(found.versions)
    counts["written"] += done.total
    for note in done.notes:
        _skip(job, name, note)
    if job.with_artifacts:
        files_want(job, name)


def _skip(job: ImportJob, name: str, reason: str) -> None:
    entry = {"model": name, "reason": reason[:500]}
    if entry not in job.skipped and len(job.skipped) < MAX_SKIPPED:
        job.skipped = [*job.skipped, entry]


def _progress(job: ImportJob, counts: dict[str, int]) -> bool:
    """Make the progress visible; False when somebody stopped the job."""
    job.counts = {**counts, "page": job.counts.get("page", _ZERO)}
    running = ImportJob.objects.filter(pk=job.pk, state=ImportState.RUNNING)
    return bool(running.update(counts=job.counts, skipped=job.skipped))


def _turn(job: ImportJob, cursor: str, counts: dict[str, int]) -> bool:
    job.cursor, job.attempts = cursor, 0
    job.counts = {**counts, "page": dict(counts)}
    running = ImportJob.objects.filter(pk=job.pk, state=ImportState.RUNNING)
    return bool(running.update(cursor=cursor, counts=job.counts, attempts=0, error=""))


def _begin(job: ImportJob) -> None:
    job.state, job.run, job.cursor, job.counts = ImportState.RUNNING, job.run + 1, _MODELS, {**_ZERO, "page": _ZERO}
    job.skipped, job.error, job.attempts, job.started_at, job.finished_at = [], "", 0, now(), None
    job.save()


def _finish(job: ImportJob, counts: dict[str, int]) -> None:
    with transaction.atomic():
        row = _locked(job.pk)
        if row.state != ImportState.RUNNING:
            return
        moment = now()
        row.state, row.counts, row.skipped = ImportState.DONE, counts, job.skipped
        row.cursor, row.error, row.finished_at = "", "", moment
        row.due_at = moment + timedelta(seconds=row.sync_seconds)
        row.save()
        if counts["written"] or counts["skipped"] or row.run == 1:
            _record(SYSTEM, "import.finished", row, {"run": row.run, "counts": counts})


def _stumble(job: ImportJob, fault: DomainError) -> None:
    """Come again later, longer each time; or give up, with the sentence for whoever looks at the job."""
    attempts = job.attempts + 1
    is_over = not fault.is_retryable or attempts >= MAX_ATTEMPTS
    delay = timedelta(seconds=min(300, 2**attempts))
    log.info("import_stumbled", job=job.pk, code=fault.code, attempts=attempts, gives_up=is_over)
    ImportJob.objects.filter(pk=job.pk, state=ImportState.RUNNING).update(
        state=ImportState.FAILED if is_over else ImportState.RUNNING,
        attempts=attempts,
        error=fault.detail[:2000],
        due_at=now() + delay,
    )


def _place(job: ImportJob) -> Place:
    return Place("registry_importjob", str(job.pk), "credential")


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in {"http", "https"} and parts.hostname and not parts.query and not parts.username
    except ValueError:  # brackets that do not close
        is_good = False
    if not is_good:
        detail = "Give the server's address, for example https://mlflow.example.com; the credential goes beside it."
        raise InvalidInput.at("/url", "bad_url", detail)


def _owner(actor: Actor, team: str) -> str:
    """The slug of the team."""
    try:
        return team_for(actor, IMPORT, team).slug
    except NotFound as fault:
        raise InvalidInput.at("/team", "team_unknown", f"There is no team {team} that you may import for.") from fault


def _allowed(actor: Actor, job_id: str) -> ImportJob:
    """The job, locked, when the actor may import for its team."""
    job = _locked(import_get(job_id, actor=actor).pk)
    access_require(actor, IMPORT, team_get(job.team_key).pk)
    return job


def _locked(job_id: str) -> ImportJob:
    job = ImportJob.objects.select_for_update().filter(pk=job_id).first()
    if job is None:
        raise NotFound("import_unknown", f"There is no import {job_id}.")
    return job


def _record(actor: Actor, verb: str, job: ImportJob, detail: dict[str, Any]) -> None:
    event_record(actor=actor, verb=verb, subject_kind="import", subject_id=job.pk, subject_label=job.url, detail=detail)
