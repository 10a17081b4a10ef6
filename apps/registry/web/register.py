"""Registering a version by hand: files or a place, looked at first, then registered as it was shown.

Everything is one form. "Check" shows what would come of it and registers nothing; "Register" does the same look again
and goes through only if nothing is refused. What was typed stays, uploaded files too: they lie in an area of their
sender until they are registered or forgotten.
"""

from __future__ import annotations

import math
from typing import Any

from django.contrib import messages
from django.core.exceptions import TooManyFilesSent
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.csrf import csrf_exempt, csrf_protect

from apps.accounts.services.access import access_require, team_for
from apps.accounts.web_access import actor_of_request, declares
from apps.kernel.actor import Actor
from apps.kernel.errors import DomainError, Forbidden, InvalidInput, NotFound
from apps.registry.domain.names import SEMVER_TAG, check_model_name
from apps.registry.models import Model, ModelVersion
from apps.registry.selectors.pages import model_seen, teams_seen
from apps.registry.services.catalogue import model_register
from apps.registry.services.provenance import Provenance, provenance_columns
from apps.registry.services.register import version_register
from apps.registry.services.versions import Entry, version_create
from apps.registry.web.doors import faults_of
from apps.registry.web.rehearsal import Rehearsal, rehearse_source, rehearse_upload
from apps.registry.web.shown import called, register_lines
from apps.registry.web.uploads import MAX_BYTES, area_of, files_keep

REGISTER = "model.register"
MORE = ("run_id", "git_commit", "parent", "lineage")
FIELDS = ("model", "team", "source", "semver", "description", "metrics", "params", "tags", "area", *MORE)
_ENVELOPE = 1024 * 1024  # what a form weighs besides its files
MAX_LINES = 200


@csrf_protect
def _form(request: HttpRequest) -> HttpResponse:
    typed = {name: request.POST.get(name, "").replace("\r\n", "\n").strip() for name in FIELDS}
    try:
        files = request.FILES.getlist("files")
        if files:
            typed["area"] = files_keep(actor_of_request(request), files, request.POST.getlist("paths"))
        model, is_new = _model(actor_of_request(request), typed)
        entry = _entry(typed)
        provenance_columns(actor_of_request(request), model.name, entry["provenance"])
        found = _rehearsed(actor_of_request(request), typed, model, is_new=is_new)
    except Forbidden:
        raise
    except DomainError as fault:
        return _page(request, typed, faults=_named(fault), status=422)
    if found.semver_fault:
        return _page(request, typed, found=found, faults={"semver": found.semver_fault}, status=422)
    if found.refused or request.POST.get("do") != "register":
        return _page(request, typed, found=found, status=422 if found.refused else 200)
    try:
        made = _registered(actor_of_request(request), model, found, entry, is_new=is_new, team=typed["team"])
    except Forbidden:
        raise
    except DomainError as fault:
        return _page(request, typed, found=found, faults=_named(fault), status=422)
    messages.success(request, f"{model.name} {called(made)} is registered.")
    return redirect("registry:version", model.name, made.reference)


@declares({"GET": REGISTER, "POST": REGISTER})
@csrf_exempt
def register(request: HttpRequest) -> HttpResponse:
    """The form. The size is looked at before the body is: Django's check of the token would read it all.

    ``_form`` checks the token itself, so nothing is done without it.
    """
    if request.method != "POST":
        typed = {name: request.GET.get(name, "") for name in ("model", "source")}
        return _page(request, typed)
    length = request.META.get("CONTENT_LENGTH") or "0"
    if length.isdecimal() and int(length) > MAX_BYTES + _ENVELOPE:
        return _page(request, {}, faults={"files": _too_large()}, status=413)
    try:
        return _form(request)
    except TooManyFilesSent:
        request.POST = request.POST.__class__("")  # what was read until then is no form
        said = "These are more than 100 files. Pack the folder into one zip archive and choose that."
        return _page(request, {"model": request.GET.get("model", "")}, faults={"files": said}, status=422)


def _too_large() -> str:
    gib = MAX_BYTES // 1024**3
    return f"This is more than {gib} GiB, nothing was kept. Upload it file by file, as any MLflow client does."


def _model(actor: Actor, typed: dict[str, str]) -> tuple[Model, bool]:
    """The model, and whether it is still to be made (then it is not saved). Raises InvalidInput and Forbidden."""
    name = typed["model"]
    if not name:
        raise InvalidInput.at("/model", "required", "Say which model this is a version of; a new name makes a new one.")
    try:
        found = model_seen(actor, name)
    except NotFound:
        check_model_name(name, "model")
        return Model(name=name, team=team_for(actor, REGISTER, typed["team"])), True
    access_require(actor, REGISTER, found.team_id)
    return found, False


def _rehearsed(actor: Actor, typed: dict[str, str], model: Model, *, is_new: bool) -> Rehearsal:
    area = area_of(actor, typed["area"])
    if area is not None:
        return rehearse_upload(area, model, is_new=is_new, semver=typed["semver"])
    if typed["area"] and not typed["source"]:
        raise InvalidInput.at("/files", "upload_forgotten", "The uploaded files are gone by now; choose them again.")
    return rehearse_source(actor, typed["source"], model, is_new=is_new, semver=typed["semver"])


def _registered(
    actor: Actor, model: Model, found: Rehearsal, entry: dict[str, Any], *, is_new: bool, team: str
) -> ModelVersion:
    """The model where it is new, and the version: both or neither."""
    with transaction.atomic():
        if is_new:
            model_register(actor=actor, name=model.name, team=team)
        if found.seen is not None:
            known = {name: entry[name] for name in ("metrics", "params", "run_id", "description", "provenance")}
            return version_register(
                actor=actor, model_name=model.name, semver=found.chosen, path=found.source, seen=found.seen, **known
            )
        if found.chosen:
            entry["tags"] = {**entry["tags"], SEMVER_TAG: found.chosen}
        return version_create(actor=actor, model_name=model.name, entry=Entry(source=found.source, **entry))


def _entry(typed: dict[str, str]) -> dict[str, Any]:
    """The fields of Entry besides its source. Raises InvalidInput naming the line."""
    return {
        "run_id": typed["run_id"],
        "description": typed["description"],
        "metrics": {name: _number(name, value) for name, value in _lines(typed["metrics"], "metrics").items()},
        "params": _lines(typed["params"], "params"),
        "tags": _lines(typed["tags"], "tags"),
        "provenance": Provenance(typed["git_commit"], typed["parent"], _lines(typed["lineage"], "lineage")),
    }


def _lines(text: str, field: str) -> dict[str, str]:
    """``name = value`` by line; empty lines are left out."""
    found: dict[str, str] = {}
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if len(lines) > MAX_LINES:
        raise InvalidInput.at(f"/{field}", "too_many", f"At most {MAX_LINES} lines.")
    for number, line in lines:
        name, mark, value = line.partition("=")
        if not mark or not name.strip():
            raise InvalidInput.at(
                f"/{field}", "bad_line", f"Line {number} is not of the form name = value: {line[:60]!r}."
            )
        found[name.strip()] = value.strip()
    return found


def _number(name: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        raise InvalidInput.at("/metrics", "bad_number", f"{name[:60]} is {value[:40]!r}, which is no number.") from None
    if not math.isfinite(number):
        raise InvalidInput.at("/metrics", "bad_number", f"{name[:60]} is {value}; write a finite number.")
    return number


def _named(fault: DomainError) -> dict[str, str]:
    """By the fields of this form; what belongs to none stands on top."""
    names = {"path": "files", "name": "model", "team_id": "team", "version": "semver", "signature": "semver"}
    known = {*FIELDS, "files"}
    found = {names.get(key, key): said for key, said in faults_of(fault).items()}
    return {key if key in known else "": said for key, said in found.items()}


def _page(
    request: HttpRequest,
    typed: dict[str, str],
    *,
    found: Rehearsal | None = None,
    faults: dict[str, str] | None = None,
    status: int = 200,
) -> HttpResponse:
    actor = actor_of_request(request)
    area = area_of(actor, typed.get("area", ""))
    teams = teams_seen(actor, REGISTER)
    mine = Model.objects.filter(team__in=teams)
    context = {
        "typed": typed,
        "is_known": mine.filter(name=typed.get("model", "").replace("\0", "")).exists(),
        "found": found,
        "faults": faults or {},
        "area": area,
        "names": mine.order_by("-updated_at")[:200],
        "teams": teams,
        "max_gib": MAX_BYTES // 1024**3,
        "lines": register_lines(typed.get("model") or "churn"),
        "is_more_open": any(typed.get(name) or (faults or {}).get(name) for name in ("metrics", "params", "tags")),
        "is_origin_open": any(typed.get(name) or (faults or {}).get(name) for name in MORE),
    }
    return render(request, "registry/register.html", context, status=status)
