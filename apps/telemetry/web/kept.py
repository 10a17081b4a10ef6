"""What is kept of an endpoint's requests (sampled payloads, labels), and the page that takes labels in from a file."""

from __future__ import annotations

from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import cache_control
from django.views.decorators.http import conditional_page

from apps.accounts.web_access import actor_of_request, declares
from apps.kernel.errors import InvalidInput
from apps.targets.selectors import endpoint_get
from apps.targets.services.scope import why_not_at
from apps.targets.services.seen import endpoint_of
from apps.telemetry.domain.labels import MAX_BYTES, MAX_ROWS, SHOWN
from apps.telemetry.selectors.samples import kept_counts
from apps.telemetry.services.labels import LabelsResult, labels_upload

FORMATS: Final = {".csv": "csv", ".parquet": "parquet"}


@declares("endpoint.read")
@cache_control(private=True, no_cache=True)
@conditional_page
def data(request: HttpRequest, name: str) -> HttpResponse:
    """How much there is to judge inputs and outcomes by, and that nothing judges inputs yet. Raises NotFound."""
    endpoint = endpoint_of(request, name)
    return render(request, "telemetry/_data.html", {"endpoint": endpoint, "kept": kept_counts(endpoint.name)})


@declares({"GET": "endpoint.read", "POST": "label.write"})
def labels(request: HttpRequest, name: str) -> HttpResponse:
    """A file of labels: looked at first, or taken. Raises NotFound, Forbidden."""
    actor = actor_of_request(request)
    endpoint = endpoint_get(name, actor)
    context: dict[str, Any] = {
        "endpoint": endpoint, "who_not": why_not_at(actor, "label.write", endpoint), "max_mib": MAX_BYTES // 2**20,
        "max_rows": MAX_ROWS, "shown": SHOWN,
    }  # fmt: skip
    status = 200
    if request.method == "POST":
        try:
            context |= _taken(request, endpoint.pk)
        except InvalidInput as error:
            context["fault"], status = error.detail, 422
        context["kept"] = kept_counts(endpoint.name)
    else:
        context["kept"] = kept_counts(endpoint.name)
    return render(request, "telemetry/labels.html", context, status=status)


def _taken(request: HttpRequest, endpoint_id: str) -> dict[str, Any]:
    """What came of the file. Raises InvalidInput with the way out, Forbidden."""
    file = request.FILES.get("file")
    if file is None or not file.name:
        raise InvalidInput.at("/file", "required", "Choose a file: CSV or Parquet.")
    form = next((form for ending, form in FORMATS.items() if file.name.lower().endswith(ending)), None)
    if form is None:
        raise InvalidInput.at("/file", "bad_format", f"{file.name[:80]} ends in neither {' nor '.join(FORMATS)}.")
    if file.size is None or file.size > MAX_BYTES:
        raise InvalidInput.at("/file", "too_large", f"A file holds at most {MAX_BYTES:,} bytes; send it in parts.")
    found: LabelsResult = labels_upload(
        actor=actor_of_request(request), endpoint_id=endpoint_id, form=form, raw=file.read(),
        is_dry_run=request.POST.get("do") != "upload",
    )  # fmt: skip
    reasons = sorted(found.reasons.items(), key=lambda one: (-one[1], one[0]))
    return {"found": found, "file_name": file.name[:120], "reasons": reasons}
