"""Taking a readout along from the page: the same files that the API gives."""

from __future__ import annotations

import json
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from apps.accounts.web_access import actor_of_request, declares
from apps.experiments.models import Readout
from apps.experiments.selectors import experiment_get, readout_get, readout_latest
from apps.experiments.services.export import readout_bundle, readout_csv, readout_json, readout_ready
from apps.kernel.actor import Actor
from apps.kernel.errors import Conflict, InvalidInput, NotFound

File = tuple[str, str, bytes]
"""Name, content type, bytes."""


@declares("experiment.read")
def take(request: HttpRequest, experiment_id: str) -> HttpResponse:
    """``?as=json|csv|bundle`` and ``?readout=rd_…``, the newest where it is missing. Raises NotFound, InvalidInput,
    Conflict (``not_done``, ``sums_moved``)."""
    actor, kind = actor_of_request(request), request.GET.get("as", "json")
    if kind not in KINDS:
        raise InvalidInput.at("/as", "unknown", f"as must be one of {', '.join(KINDS)}.")
    readout = _readout(actor, experiment_id, request.GET.get("readout", ""))
    name, content_type, raw = KINDS[kind](actor, readout_ready(readout))
    return as_file(name, content_type, raw)


def as_file(name: str, content_type: str, raw: bytes) -> HttpResponse:
    response = HttpResponse(raw, content_type=content_type)
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    response["Cache-Control"] = "no-store"
    return response


def _readout(actor: Actor, experiment_id: str, readout_id: str) -> Readout:
    experiment = experiment_get(experiment_id, actor)
    found = readout_get(readout_id, actor) if readout_id else readout_latest(experiment)
    if found is None:
        raise Conflict("not_done", "Nothing was read yet; there is nothing to take along.")
    if found.experiment_id != experiment.pk:
        raise NotFound("readout_not_found", f"There is no readout {readout_id[:40]!r} of this experiment.")
    return found


def _json(_: Actor, readout: Readout) -> File:
    text = json.dumps(readout_json(readout), indent=2, sort_keys=True)
    return f"{readout.experiment_id}-look-{readout.number}.json", "application/json", text.encode()


def _csv(_: Actor, readout: Readout) -> File:
    name = f"{readout.experiment_id}-look-{readout.number}.csv"
    return name, "text/csv; charset=utf-8", readout_csv(readout).encode()


def _bundle(actor: Actor, readout: Readout) -> File:
    name, raw = readout_bundle(actor=actor, readout_id=readout.pk)
    return name, "application/zip", raw


KINDS: dict[str, Callable[[Actor, Readout], File]] = {"json": _json, "csv": _csv, "bundle": _bundle}
