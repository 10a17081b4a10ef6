"""Imports from other MLflow servers: set up, watched, stopped, repeated."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse

from apps.accounts.selectors import team_get
from apps.accounts.services.access import access_allows
from apps.accounts.web_access import actor_of_request, declares, why_not
from apps.kernel.clock import now
from apps.kernel.errors import InvalidInput
from apps.registry.domain.importing import ImportState
from apps.registry.drivers.mlflow_registry import allow_line
from apps.registry.models import ImportedModel, ImportJob
from apps.registry.selectors.imports import Files, import_files, import_show
from apps.registry.selectors.pages import import_seen, imports_seen, teams_seen
from apps.registry.services.importing import import_again, import_create, import_stop
from apps.registry.web.doors import Faults, attempt

WRITE = "registry.import"
RHYTHMS = (("0", "Once"), ("300", "Every 5 minutes"), ("3600", "Every hour"), ("86400", "Every day"))
FIELDS = ("url", "username", "credential", "team", "rhythm", "with_artifacts")
STATES = {
    ImportState.WAITING: ("progressing", "about to begin"),
    ImportState.RUNNING: ("progressing", "running"),
    ImportState.DONE: ("ok", "done"),
    ImportState.FAILED: ("bad", "failed"),
    ImportState.STOPPED: ("unknown", "stopped"),
}
LIVE = frozenset({ImportState.WAITING, ImportState.RUNNING})
MODELS_SHOWN = 50
LATE = timedelta(minutes=1)


@declares({"GET": "model.read", "POST": WRITE})
def imports(request: HttpRequest) -> HttpResponse:
    """GET lists, POST sets one up and starts it; what was typed stays when it is refused, but for the credential."""
    if request.method != "POST":
        return _list(request)
    typed = {name: request.POST.get(name, "").strip() for name in FIELDS}
    actor, made = actor_of_request(request), []

    def make() -> None:
        made.append(
            import_create(
                actor=actor,
                url=typed["url"],
                username=typed["username"],
                credential=typed["credential"],
                team=typed["team"],
                with_artifacts=bool(typed["with_artifacts"]),
                sync_seconds=_rhythm(typed["rhythm"]),
            )
        )

    # No sentence of success: its page says how far it is, and that may be a failure by the time it is seen.
    answer = attempt(request, make, done="", then="registry:imports", refused=lambda f, s: _list(request, f, s))
    if made:
        answer["Location"] = reverse("registry:import", args=[made[0].pk])
    return answer


@declares("model.read")
def import_job(request: HttpRequest, job_id: str) -> HttpResponse:
    """One import: how far it is, what was taken over, what was skipped and why. Raises NotFound."""
    return _job(request, import_seen(actor_of_request(request), job_id))


@declares("model.read")
def progress(request: HttpRequest, job_id: str) -> HttpResponse:
    """Fragment; once the run is over the whole page is fetched again."""
    found = import_seen(actor_of_request(request), job_id)
    shown = _shown(found)
    answer = render(request, "registry/_progress.html", shown)
    if not shown["is_live"] and request.headers.get("HX-Request") == "true":
        answer["HX-Refresh"] = "true"
    return answer


@declares({"POST": WRITE})
def again(request: HttpRequest, job_id: str) -> HttpResponse:
    """Runs it once more, with the rhythm that was chosen, and with the files or without."""

    def run(found: ImportJob) -> object:
        seconds = _rhythm(request.POST.get("rhythm", "0"))
        return import_again(
            actor=actor_of_request(request),
            job_id=found.pk,
            sync_seconds=seconds,
            with_artifacts=bool(request.POST.get("with_artifacts")),
        )

    return _change(request, job_id, run, "")


@declares({"POST": WRITE})
def stop(request: HttpRequest, job_id: str) -> HttpResponse:
    """Ends the run after the model it is at, and its repetitions."""

    def end(found: ImportJob) -> object:
        return import_stop(actor=actor_of_request(request), job_id=found.pk)

    return _change(request, job_id, end, "Stopped. What was taken over stays.")


def _change(request: HttpRequest, job_id: str, do: Callable[[ImportJob], object], done: str) -> HttpResponse:
    found = import_seen(actor_of_request(request), job_id)
    place = reverse("registry:import", args=[found.pk])
    return attempt(request, lambda: do(found), done=done, then=place, refused=lambda f, s: _job(request, found, f, s))


def _rhythm(text: str) -> int:
    if text not in dict(RHYTHMS):
        raise InvalidInput.at("/rhythm", "unknown", "Choose from the list how often it is repeated.")
    return int(text)


def _list(request: HttpRequest, faults: Faults | None = None, status: int = 200) -> HttpResponse:
    actor = actor_of_request(request)
    names = {"sync_seconds": "rhythm"}
    is_refused = "PILOTHOUSE_OUTBOUND_ALLOW" in (faults or {}).get("url", "")
    context = {
        "jobs": [_shown(job) for job in imports_seen(actor)],
        "teams": teams_seen(actor, WRITE),
        "rhythms": RHYTHMS,
        "faults": {names.get(name, name): said for name, said in (faults or {}).items()},
        "outbound_line": allow_line(request.POST["url"].strip()) if is_refused else "",
        "typed": request.POST,
        "wants_files": request.method != "POST" or bool(request.POST.get("with_artifacts")),
        "why_not": why_not(request, WRITE),
    }
    return render(request, "registry/imports.html", context, status=status)


def _job(request: HttpRequest, found: ImportJob, faults: Faults | None = None, status: int = 200) -> HttpResponse:
    actor = actor_of_request(request)
    mine = ImportedModel.objects.filter(job=found, model__deleted_at=None).select_related("model")
    may = access_allows(actor, WRITE, team_get(found.team_key).pk)
    context = {
        **_shown(found),
        "models": [row.model.name for row in mine.order_by("remote_name")[:MODELS_SHOWN]],
        "model_count": mine.count(),
        "rhythms": RHYTHMS,
        "faults": faults or {},
        "why_not": "" if may else f"You may look, not do this. It needs the role admin in the team {found.team_key}.",
    }
    return render(request, "registry/import.html", context, status=status)


def _shown(job: ImportJob) -> dict[str, Any]:
    files = import_files(job)
    return {
        "job": job,
        "told": import_show(job, files),
        "files": files,
        "level": _level(job, files),
        "is_live": job.state in LIVE or bool(files.waiting),
        "is_late": job.state == ImportState.WAITING and now() - job.due_at > LATE,
        "next_run": job.run + 1,
        "rhythm": dict(RHYTHMS).get(str(job.sync_seconds), f"Every {job.sync_seconds} s"),
    }


def _level(job: ImportJob, files: Files) -> tuple[str, str]:
    """(level, word) of the whole: what was copied and what became of the files."""
    if job.state == ImportState.DONE and files.waiting:
        return "progressing", "bringing the files"
    if job.state == ImportState.DONE and files.missing and job.with_artifacts:
        return "attention", "done, but for some files"
    return STATES[ImportState(job.state)]
