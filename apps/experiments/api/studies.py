"""Trying a plan out by simulation: asked for, then looked at until it is done."""

from __future__ import annotations

from typing import ClassVar

from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api_access import idempotent
from apps.experiments.api.bodies import SimulateBody, design_given
from apps.experiments.api.shapes import StudySchema, study_show
from apps.experiments.api.views import TAG
from apps.experiments.domain.words import ReadoutState
from apps.experiments.services.studies import study_get, study_request
from apps.kernel.rest import ApiView, actor_of, body_of, operation


class SimulateView(ApiView):
    action_required: ClassVar = {"POST": "experiment.read"}

    @operation(
        "experiment_simulate",
        "Try a plan out: simulated power, false alarms, units used",
        tag=TAG,
        description="202 while it is computed: ask the study at Location until its state is done. The same plan is "
        "computed once: 200 where its answer is there.",
        body=SimulateBody,
        errors=(404,),
        is_idempotent=True,
        answers={200: StudySchema, 202: StudySchema},
    )
    @idempotent
    def post(self, request: Request) -> Response:
        asked = body_of(request, SimulateBody)
        study = study_request(
            actor=actor_of(request),
            endpoint_id=asked["endpoint"],
            design=design_given(asked["design"]),
            units_per_day=asked.get("units_per_day"),
            accumulation=asked.get("accumulation"),
            runs=asked["runs"],
        )
        response = Response(study_show(study), status=200 if study.state == ReadoutState.DONE else 202)
        response["Location"] = f"/api/v1/studies/{study.pk}"
        return response


class StudyView(ApiView):
    action_required = "experiment.read"

    @operation(
        "study_get",
        "A simulated plan: how far it is, and what came out",
        tag=TAG,
        path={"study_id": "The study's id."},
        answers={200: StudySchema},
    )
    def get(self, request: Request, study_id: str) -> Response:
        return Response(study_show(study_get(study_id)))
