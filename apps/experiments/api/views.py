"""Experiments: list, design, size, and what may be asked of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api_access import idempotent, idempotent_prepared
from apps.experiments.api.bodies import (
    DecideBody,
    ExperimentBody,
    ExperimentsQuery,
    ExtendBody,
    PlanBody,
    ReviseBody,
    SizeBody,
    StartBody,
    StopBody,
    design_given,
)
from apps.experiments.api.shapes import (
    ExperimentDecisionSchema,
    ExperimentDetailSchema,
    ExperimentPlannedSchema,
    ExperimentSchema,
    SizeSchema,
    decision_show,
    detail_show,
    experiment_show,
    planned_show,
)
from apps.experiments.models import Experiment
from apps.experiments.selectors import allowed_commands, experiment_get, experiment_list, periods_of
from apps.experiments.services.decide import experiment_decide
from apps.experiments.services.designs import design_size, experiment_create, experiment_plan, experiment_revise
from apps.experiments.services.lifecycle import (
    experiment_extend,
    experiment_start,
    experiment_stop,
    start_prepare,
)
from apps.kernel.actor import Actor
from apps.kernel.rest import ApiView, actor_of, body_of, operation, page_of, page_schema, query_of, with_etag
from apps.registry.selectors import version_by, version_get
from apps.targets.selectors import endpoint_get

TAG = "experiments"
EXPERIMENT = {"experiment_id": "The experiment's id."}


class ExperimentsView(ApiView):
    action_required: ClassVar = {"GET": "experiment.read", "POST": "experiment.write"}

    @operation(
        "experiment_list",
        "Experiments, newest first",
        tag=TAG,
        query=ExperimentsQuery,
        errors=(404,),
        answers={200: page_schema("Experiment", ExperimentSchema)},
    )
    def get(self, request: Request) -> Response:
        asked, actor = query_of(request, ExperimentsQuery), actor_of(request)
        found = experiment_list(actor, status=asked.pop("status", None), is_active=asked.pop("is_active", None))
        if "endpoint" in asked:
            found = found.filter(endpoint_id=endpoint_get(asked.pop("endpoint"), actor).pk)
        return Response(page_of(found, key="-id", show=experiment_show, **asked))

    @operation(
        "experiment_create",
        "Design an experiment: a draft",
        tag=TAG,
        description="The control is what the endpoint serves now. Every field that is wrong is named.",
        body=ExperimentBody,
        errors=(404, 409),
        is_idempotent=True,
        answers={201: ExperimentDetailSchema},
    )
    @idempotent
    def post(self, request: Request) -> Response:
        asked, actor = body_of(request, ExperimentBody), actor_of(request)
        experiment = experiment_create(
            actor=actor,
            name=asked["name"],
            endpoint_id=asked["endpoint"],
            treatment_version_id=version_id_of(actor, asked["endpoint"], asked["version"]),
            design=design_given(asked["design"]),
        )
        response = _shown(experiment, 201)
        response["Location"] = f"/api/v1/experiments/{experiment.pk}"
        return response


class ExperimentView(ApiView):
    action_required: ClassVar = {"GET": "experiment.read", "PATCH": "experiment.write"}

    @operation(
        "experiment_get",
        "One experiment",
        tag=TAG,
        path=EXPERIMENT,
        has_etag=True,
        answers={200: ExperimentDetailSchema},
    )
    def get(self, request: Request, experiment_id: str) -> Response:
        return _shown(experiment_get(experiment_id, actor_of(request)))

    @operation(
        "experiment_revise",
        "Change a draft",
        tag=TAG,
        description="Possible until it is started; a planned one becomes a draft again.",
        path=EXPERIMENT,
        body=ReviseBody,
        errors=(409,),
        answers={200: ExperimentDetailSchema},
    )
    def patch(self, request: Request, experiment_id: str) -> Response:
        asked, actor = body_of(request, ReviseBody), actor_of(request)
        version = asked.get("version")
        if version is not None:
            version = version_id_of(actor, experiment_get(experiment_id, actor).endpoint_id, version)
        return _shown(
            experiment_revise(
                actor=actor,
                experiment_id=experiment_id,
                expected_revision=asked.get("expected_revision"),
                name=asked.get("name"),
                treatment_version_id=version,
                design=design_given(asked["design"]) if "design" in asked else None,
            )
        )


class SizeView(ApiView):
    action_required: ClassVar = {"POST": "experiment.read"}

    @operation(
        "experiment_size",
        "What a design costs: units, days, power; stores nothing",
        tag=TAG,
        body=SizeBody,
        errors=(404,),
        answers={200: SizeSchema},
    )
    def post(self, request: Request) -> Response:
        asked = body_of(request, SizeBody)
        planned = design_size(
            actor=actor_of(request),
            endpoint_id=asked["endpoint"],
            design=design_given(asked["design"]),
            units_per_day=asked.get("units_per_day"),
            accumulation=asked.get("accumulation"),
        )
        return Response(planned_show(planned))


class PlanView(ApiView):
    action_required: ClassVar = {"POST": "experiment.write"}

    @operation(
        "experiment_plan",
        "Fix the size: ready to start",
        tag=TAG,
        description="Answers what `experiments/size` would, with R and Python lines that give every number again. "
        "Units a day are measured where they can be; give `units_per_day` where nothing was measured yet.",
        path=EXPERIMENT,
        body=PlanBody,
        is_idempotent=True,
        answers={200: ExperimentPlannedSchema},
    )
    @idempotent
    def post(self, request: Request, experiment_id: str) -> Response:
        asked = body_of(request, PlanBody)
        experiment, planned = experiment_plan(actor=actor_of(request), experiment_id=experiment_id, **asked)
        return Response({"experiment": experiment_show(experiment), "size": planned_show(planned)})


class StartView(ApiView):
    action_required: ClassVar = {"POST": "experiment.start"}

    @operation(
        "experiment_start",
        "Take the endpoint's traffic and split it",
        tag=TAG,
        description="It is `starting` until both versions are ready and the gateway has taken the route.",
        path=EXPERIMENT,
        body=StartBody,
        is_idempotent=True,
        answers={200: ExperimentDetailSchema},
    )
    @idempotent_prepared
    def post(self, request: Request, experiment_id: str) -> Callable[[], Response]:
        asked, actor = body_of(request, StartBody), actor_of(request)
        start_prepare(actor=actor, experiment_id=experiment_id)  # reads the whole artifact

        def start() -> Response:
            return _shown(experiment_start(actor=actor, experiment_id=experiment_id, is_prepared=True, **asked))

        return start


class StopView(ApiView):
    action_required: ClassVar = {"POST": "experiment.stop"}

    @operation(
        "experiment_stop",
        "End it without a verdict: all traffic to the stable version",
        tag=TAG,
        path=EXPERIMENT,
        body=StopBody,
        is_idempotent=True,
        answers={200: ExperimentDetailSchema},
    )
    @idempotent
    def post(self, request: Request, experiment_id: str) -> Response:
        asked = body_of(request, StopBody)
        return _shown(experiment_stop(actor=actor_of(request), experiment_id=experiment_id, **asked))


class ExtendView(ApiView):
    action_required: ClassVar = {"POST": "experiment.extend"}

    @operation(
        "experiment_extend",
        "More days, more coverage; in the mode always_valid more units",
        tag=TAG,
        description="Never less. More coverage begins a new period: counts from before and after are never mixed.",
        path=EXPERIMENT,
        body=ExtendBody,
        is_idempotent=True,
        answers={200: ExperimentDetailSchema},
    )
    @idempotent
    def post(self, request: Request, experiment_id: str) -> Response:
        asked = body_of(request, ExtendBody)
        return _shown(experiment_extend(actor=actor_of(request), experiment_id=experiment_id, **asked))


class DecideView(ApiView):
    action_required: ClassVar = {"POST": "experiment.decide"}

    @operation(
        "experiment_decide",
        "End it with a decision made from the newest readout",
        tag=TAG,
        description="Traffic goes back to the stable version; what is shipped is then rolled out. Against what the "
        "readout says it needs a `reason`, and counts as an override.",
        path=EXPERIMENT,
        body=DecideBody,
        is_idempotent=True,
        answers={200: ExperimentDecisionSchema},
    )
    @idempotent
    def post(self, request: Request, experiment_id: str) -> Response:
        asked = body_of(request, DecideBody)
        decision = experiment_decide(
            actor=actor_of(request),
            experiment_id=experiment_id,
            kind=asked["kind"],
            readout_id=asked["readout"],
            reason=asked["reason"],
        )
        return Response(decision_show(decision))


def version_id_of(actor: Actor, endpoint_id: str, reference: str) -> str:
    """A version of the endpoint's model by semver, number, alias, or its id. Raises NotFound."""
    endpoint = endpoint_get(endpoint_id, actor)
    if reference.startswith("mv_"):
        return version_get(reference, actor=actor).pk
    return version_by(endpoint.model.name, reference, actor=actor).pk


def _shown(experiment: Experiment, status: int = 200) -> Response:
    body: dict[str, Any] = detail_show(experiment, periods_of(experiment), allowed_commands(experiment))
    return with_etag(body, experiment.revision, status=status)
