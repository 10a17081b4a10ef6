"""The doors that programs use: assignment, exposures, outcomes, and looking at what they add up to."""

from __future__ import annotations

from typing import Any, ClassVar, cast

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api_access import idempotent
from apps.experiments.api.bodies import AssignBody, ExposuresBody, OutcomesBody
from apps.experiments.api.shapes import (
    AssignedSchema,
    ReadoutExportSchema,
    ReadoutSchema,
    TakenSchema,
    assigned_show,
    readout_show,
    taken_show,
)
from apps.experiments.api.views import EXPERIMENT, TAG
from apps.experiments.models import Readout
from apps.experiments.selectors import experiment_get, readout_get
from apps.experiments.services.assign import units_assign
from apps.experiments.services.export import readout_bundle, readout_csv, readout_json, readout_ready
from apps.experiments.services.exposures import exposures_add
from apps.experiments.services.outcomes import outcomes_add
from apps.experiments.services.readouts import readout_request
from apps.kernel.rest import ApiView, PageQuery, actor_of, body_of, operation, page_of, page_schema, query_of

READOUT = {"readout_id": "The readout's id."}


class AssignmentsView(ApiView):
    action_required: ClassVar = {"POST": "experiment.report"}

    @operation(
        "experiment_assign",
        "Which arm each unit belongs to, and the header that brings it there",
        tag=TAG,
        description="The same unit gets the same arm for ever. While nothing runs every arm is null: call without the "
        "header and the stable version answers.",
        path=EXPERIMENT,
        body=AssignBody,
        answers={200: AssignedSchema},
    )
    def post(self, request: Request, experiment_id: str) -> Response:
        asked = body_of(request, AssignBody)
        asked["has_exposure"] = asked.pop("record_exposure")
        return Response(assigned_show(units_assign(actor=actor_of(request), experiment_id=experiment_id, **asked)))


class ExposuresView(ApiView):
    action_required: ClassVar = {"POST": "experiment.report"}

    @operation(
        "experiment_exposures",
        "Report who saw their arm; the first time of a unit counts",
        tag=TAG,
        description="Safe to repeat: every item is accepted, a duplicate, or rejected with its index and reason.",
        path=EXPERIMENT,
        body=ExposuresBody,
        errors=(409,),
        answers={200: TakenSchema},
    )
    def post(self, request: Request, experiment_id: str) -> Response:
        body = body_of(request, ExposuresBody)
        return Response(taken_show(exposures_add(actor=actor_of(request), experiment_id=experiment_id, body=body)))


class OutcomesView(ApiView):
    action_required: ClassVar = {"POST": "experiment.report"}

    @operation(
        "experiment_outcomes",
        "Report what happened to units, by event id, however late",
        tag=TAG,
        description="Safe to repeat: every item is accepted, a duplicate, or rejected with its index and reason.",
        path=EXPERIMENT,
        body=OutcomesBody,
        errors=(409,),
        answers={200: TakenSchema},
    )
    def post(self, request: Request, experiment_id: str) -> Response:
        body = body_of(request, OutcomesBody)
        return Response(taken_show(outcomes_add(actor=actor_of(request), experiment_id=experiment_id, body=body)))


class ReadoutsView(ApiView):
    action_required: ClassVar = {"GET": "experiment.read", "POST": "experiment.read"}

    @operation(
        "readout_list",
        "Looks at an experiment, newest first",
        tag=TAG,
        path=EXPERIMENT,
        query=PageQuery,
        answers={200: page_schema("Readout", ReadoutSchema)},
    )
    def get(self, request: Request, experiment_id: str) -> Response:
        asked = query_of(request, PageQuery)
        experiment = experiment_get(experiment_id, actor_of(request))
        found = Readout.objects.filter(experiment=experiment).defer("inputs")
        return Response(page_of(found, key="-id", show=readout_show, **asked))

    @operation(
        "readout_request",
        "Have it computed now",
        tag=TAG,
        description="Poll `GET readouts/{id}` until `state` is `done` or `failed`; `kind` is then what to do (`ship`, "
        "`roll_back`, `keep_running`, `stop_inconclusive`, `blocked`), `result.decision.reasons` why. Look as often as "
        "you like: every look stands in the boundary of the next. One that waits already is answered again; the same "
        "data give the same look.",
        path=EXPERIMENT,
        errors=(409,),
        is_idempotent=True,
        answers={202: ReadoutSchema},
    )
    @idempotent
    def post(self, request: Request, experiment_id: str) -> Response:
        readout = readout_request(actor=actor_of(request), experiment_id=experiment_id)
        response = Response(readout_show(readout), status=202)
        response["Location"] = f"/api/v1/readouts/{readout.pk}"
        return response


class BundleRenderer(BaseRenderer):
    """Lets a caller ask for application/zip; the answer is made by the view."""

    media_type, format = "application/zip", "zip"

    def render(self, data: Any, accepted_media_type: Any = None, renderer_context: Any = None) -> bytes:
        return JSONRenderer().render(data)  # an error


class TableRenderer(BundleRenderer):
    media_type, format = "text/csv", "csv"


class ReadoutExportView(ApiView):
    action_required = "experiment.read"

    @operation(
        "readout_export",
        "One look with its design and everything that it was made from, as JSON",
        tag=TAG,
        path=READOUT,
        errors=(409,),
        answers={200: ReadoutExportSchema},
    )
    def get(self, request: Request, readout_id: str) -> Response:
        return Response(readout_json(_done(request, readout_id)))


class ReadoutTableView(ApiView):
    action_required = "experiment.read"
    renderer_classes = (JSONRenderer, TableRenderer)

    @operation(
        "readout_table",
        "One look as CSV: a line per metric",
        tag=TAG,
        path=READOUT,
        errors=(409,),
        answers={(200, "text/csv"): OpenApiTypes.STR},  # type: ignore[dict-item]
    )
    def get(self, request: Request, readout_id: str) -> Response:
        text = readout_csv(_done(request, readout_id))
        return _file(text.encode(), "text/csv; charset=utf-8", f"{readout_id}.csv")


class ReadoutBundleView(ApiView):
    action_required = "experiment.read"
    renderer_classes = (JSONRenderer, BundleRenderer)

    @operation(
        "readout_bundle",
        "One look as a zip that gives its decision again with R or Python",
        tag=TAG,
        path=READOUT,
        errors=(409,),
        answers={(200, "application/zip"): OpenApiTypes.BINARY},  # type: ignore[dict-item]
    )
    def get(self, request: Request, readout_id: str) -> Response:
        name, raw = readout_bundle(actor=actor_of(request), readout_id=readout_id)
        return _file(raw, "application/zip", name)


def _done(request: Request, readout_id: str) -> Readout:
    readout = readout_get(readout_id, actor_of(request))
    return readout_ready(readout)


def _file(raw: bytes, content_type: str, name: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    answer = HttpResponse(raw, content_type=content_type, headers=headers)
    return cast(Response, answer)  # REST framework takes any HttpResponse


class ReadoutView(ApiView):
    action_required = "experiment.read"

    @operation(
        "readout_get",
        "One look: its progress, then its result",
        tag=TAG,
        description="Numbers that are none (an interval without an end, what cannot be tested) are null; a comparison "
        "that cannot be made has `undefined` with its reason, and `text` in words, instead of numbers.",
        path=READOUT,
        answers={200: ReadoutSchema},
    )
    def get(self, request: Request, readout_id: str) -> Response:
        return Response(readout_show(readout_get(readout_id, actor_of(request))))
