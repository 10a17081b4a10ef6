"""Objectives of endpoints: list, set, replay; how their budgets burn; Prometheus rules."""

from __future__ import annotations

from typing import ClassVar

from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api_access import idempotent
from apps.kernel.rest import (
    ApiView,
    actor_of,
    body_of,
    if_match,
    operation,
    page_of,
    page_schema,
    query_of,
    with_etag,
)
from apps.slo.api.bodies import (
    ObjectiveBody,
    ObjectivePatch,
    ObjectivesQuery,
    ReplayBody,
    ReplayNewBody,
    RulesQuery,
    plain,
)
from apps.slo.api.shapes import (
    BurnsSchema,
    ObjectiveProfilesSchema,
    ObjectiveSchema,
    ReplaySchema,
    RulesSchema,
    burn_show,
    objective_show,
    profile_show,
    replay_show,
)
from apps.slo.domain.policy import PROFILES
from apps.slo.models import Objective
from apps.slo.selectors import burns_of, objective_get, objective_list
from apps.slo.services.objectives import objective_create, objective_delete, objective_update
from apps.slo.services.replays import objective_replay
from apps.slo.services.rules import rules_export
from apps.targets.services.scope import endpoint_require

TAG = "objectives"
ENDPOINT = {"endpoint_name": "The endpoint's name."}
OBJECTIVE = {"objective_id": "The objective's id, ob_…"}


class EndpointObjectivesView(ApiView):
    action_required: ClassVar = {"GET": "objective.read", "POST": "objective.write"}

    @operation(
        "objective_list", "Objectives of an endpoint", tag=TAG, path=ENDPOINT, query=ObjectivesQuery,
        answers={200: page_schema("Objective", ObjectiveSchema)},
    )  # fmt: skip
    def get(self, request: Request, endpoint_name: str) -> Response:
        endpoint = endpoint_require(actor_of(request), "objective.read", endpoint_name)
        rows = objective_list(endpoint_id=endpoint.pk)
        return Response(page_of(rows, key="id", show=objective_show, **query_of(request, ObjectivesQuery)))

    @operation(
        "objective_create", "Promise something", tag=TAG, path=ENDPOINT, body=ObjectiveBody, is_idempotent=True,
        description="Refused where a tier could never fire: its factor is 1 / (1 - target) or more.",
        answers={201: ObjectiveSchema}, errors=(409,),
    )  # fmt: skip
    @idempotent
    def post(self, request: Request, endpoint_name: str) -> Response:
        asked = plain(body_of(request, ObjectiveBody))
        row = objective_create(actor=actor_of(request), endpoint_id=endpoint_name, **asked)
        response = _shown(row, 201)
        response["Location"] = f"/api/v1/objectives/{row.pk}"
        return response


class ObjectiveView(ApiView):
    action_required: ClassVar = {"GET": "objective.read", "PATCH": "objective.write", "DELETE": "objective.write"}

    @operation("objective_get", "One objective", tag=TAG, path=OBJECTIVE, has_etag=True, answers={200: ObjectiveSchema})
    def get(self, request: Request, objective_id: str) -> Response:
        return _shown(objective_get(objective_id, actor_of(request)))

    @operation(
        "objective_update", "Change what is named", tag=TAG, path=OBJECTIVE, body=ObjectivePatch, needs_if_match=True,
        answers={200: ObjectiveSchema}, errors=(409,),
    )  # fmt: skip
    def patch(self, request: Request, objective_id: str) -> Response:
        actor, asked = actor_of(request), plain(body_of(request, ObjectivePatch))
        revision = objective_get(objective_id, actor).revision
        if_match(request, revision)
        return _shown(objective_update(actor=actor, objective_id=objective_id, expected_revision=revision, **asked))

    @operation(
        "objective_delete", "Promise it no longer; an alert about it is closed", tag=TAG, path=OBJECTIVE,
        needs_if_match=True, answers={204: None}, errors=(409,),
    )  # fmt: skip
    def delete(self, request: Request, objective_id: str) -> Response:
        actor = actor_of(request)
        revision = objective_get(objective_id, actor).revision
        if_match(request, revision)
        objective_delete(actor=actor, objective_id=objective_id, expected_revision=revision)
        return Response(status=204)


class ReplayNewView(ApiView):
    action_required: ClassVar = {"POST": "objective.read"}

    @operation(
        "objective_replay_new", "What a new objective would have done; stores nothing", tag=TAG, path=ENDPOINT,
        body=ReplayNewBody, answers={200: ReplaySchema},
    )  # fmt: skip
    def post(self, request: Request, endpoint_name: str) -> Response:
        asked = plain(body_of(request, ReplayNewBody))
        given = asked.pop("objective")
        spec, found = objective_replay(actor=actor_of(request), endpoint_id=endpoint_name, given=given, **asked)
        return Response(replay_show(spec, found))


class ReplayView(ApiView):
    action_required: ClassVar = {"POST": "objective.read"}

    @operation(
        "objective_replay", "What it would have done with these changes; stores nothing", tag=TAG, path=OBJECTIVE,
        body=ReplayBody, answers={200: ReplaySchema},
    )  # fmt: skip
    def post(self, request: Request, objective_id: str) -> Response:
        asked = plain(body_of(request, ReplayBody))
        given = asked.pop("changes", {})
        spec, found = objective_replay(actor=actor_of(request), objective_id=objective_id, given=given, **asked)
        return Response(replay_show(spec, found))


class BurnsView(ApiView):
    action_required: ClassVar = {"GET": "objective.read"}

    @operation(
        "endpoint_burns", "How the budgets of an endpoint stand, worst first", tag=TAG, path=ENDPOINT,
        answers={200: BurnsSchema},
    )  # fmt: skip
    def get(self, request: Request, endpoint_name: str) -> Response:
        endpoint = endpoint_require(actor_of(request), "objective.read", endpoint_name)
        burns = [burn_show(burn) for burn in burns_of(endpoint.name)]
        return Response({"object": "burns", "endpoint": endpoint.name, "burns": burns})


class ProfilesView(ApiView):
    action_required: ClassVar = {"GET": "objective.read"}

    @operation(
        "objective_profiles", "The alerting policies that have names", tag=TAG, answers={200: ObjectiveProfilesSchema}
    )
    def get(self, request: Request) -> Response:
        return Response({"profiles": [profile_show(policy) for policy in PROFILES.values()]})


class RulesView(ApiView):
    action_required: ClassVar = {"GET": "objective.read"}

    @operation(
        "endpoint_prometheus_rules", "The same objectives as rules of Prometheus", tag=TAG, path=ENDPOINT,
        query=RulesQuery, answers={200: RulesSchema},
    )  # fmt: skip
    def get(self, request: Request, endpoint_name: str) -> Response:
        asked = query_of(request, RulesQuery)
        found = rules_export(actor=actor_of(request), endpoint_id=endpoint_name, **asked)
        return Response(
            {"object": "prometheus_rules", "endpoint": endpoint_name, "rules": found.text, "notes": list(found.notes)}
        )


def _shown(row: Objective, status: int = 200) -> Response:
    return with_etag(objective_show(row), row.revision, status=status)
