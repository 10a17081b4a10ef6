"""Models, versions, aliases and what a version would break."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api_access import idempotent, idempotent_prepared
from apps.kernel.rest import (
    ApiView,
    PageQuery,
    StrictChar,
    StrictObject,
    StrictSerializer,
    actor_of,
    body_of,
    operation,
    page_of,
    page_schema,
    query_of,
)
from apps.registry.api.shapes import (
    ComparisonSchema,
    ModelSchema,
    VersionSchema,
    model_show,
    version_show,
)
from apps.registry.models import Model, ModelVersion
from apps.registry.selectors import drop_in_problems, model_get, readable_q, version_by
from apps.registry.services.register import artifact_read, model_create, version_register

TAG = "models"
MODEL = {"model_name": "The model's name."}


class ModelBody(StrictSerializer):
    name = StrictChar(max_length=100)
    description = StrictChar(max_length=10_000, allow_blank=True, default="")
    team = StrictChar(
        max_length=80,
        allow_blank=True,
        default="",
        help_text="Who owns it: slug or id; empty: where you register models.",
    )


class VersionBody(StrictSerializer):
    version = StrictChar(max_length=40, help_text="major.minor.patch; major changes the schema.")
    path = StrictChar(max_length=900, help_text="The folder that mlflow saved the model to: a path or a file:// URI.")
    metrics = StrictObject(default=dict)
    params = StrictObject(default=dict)
    run_id = StrictChar(max_length=64, allow_blank=True, default="")
    description = StrictChar(max_length=10_000, allow_blank=True, default="")


class CompareQuery(StrictSerializer):
    stable = StrictChar(max_length=100)
    candidate = StrictChar(max_length=100)


class ModelsView(ApiView):
    action_required: ClassVar = {"GET": "model.read", "POST": "model.register"}

    @operation(
        "model_list", "Models by name", tag=TAG, query=PageQuery, answers={200: page_schema("Model", ModelSchema)}
    )
    def get(self, request: Request) -> Response:
        found = Model.objects.filter(readable_q(actor_of(request), "team_id"))
        found = found.select_related("team").prefetch_related("versions", "aliases__version")
        return Response(page_of(found, key="name", show=model_show, **query_of(request, PageQuery)))

    @operation(
        "model_create",
        "A model without versions",
        tag=TAG,
        body=ModelBody,
        is_idempotent=True,
        answers={201: ModelSchema},
    )
    @idempotent
    def post(self, request: Request) -> Response:
        model = model_create(actor=actor_of(request), **body_of(request, ModelBody))
        return Response(model_show(model), status=201, headers={"Location": f"/api/v1/models/{model.name}"})


class ModelView(ApiView):
    action_required = "model.read"

    @operation("model_get", "One model", tag=TAG, path=MODEL, answers={200: ModelSchema})
    def get(self, request: Request, model_name: str) -> Response:
        return Response(model_show(model_get(model_name, actor=actor_of(request))))


class VersionsView(ApiView):
    action_required: ClassVar = {"GET": "model.read", "POST": "model.register"}

    @operation(
        "version_list",
        "Versions, newest registration first",
        tag=TAG,
        path=MODEL,
        query=PageQuery,
        answers={200: page_schema("ModelVersion", VersionSchema)},
    )
    def get(self, request: Request, model_name: str) -> Response:
        asked = query_of(request, PageQuery)
        found = ModelVersion.objects.select_related("model").prefetch_related("aliases")
        found = found.filter(model=model_get(model_name, actor=actor_of(request)))
        return Response(page_of(found, key="-number", show=version_show, **asked))

    @operation(
        "version_register",
        "Register the artifact at a path as an immutable version",
        tag=TAG,
        description="The artifact stays where it is; its digest, signature and declared ranges are read and kept. "
        "Refused with the differing fields named when it would break callers of the same major version.",
        path=MODEL,
        body=VersionBody,
        is_idempotent=True,
        answers={201: VersionSchema},
    )
    @idempotent_prepared
    def post(self, request: Request, model_name: str) -> Callable[[], Response]:
        asked = body_of(request, VersionBody)
        actor, semver = actor_of(request), asked.pop("version")
        seen = artifact_read(actor=actor, model_name=model_name, path=asked["path"])

        def register() -> Response:
            version = version_register(actor=actor, model_name=model_name, semver=semver, seen=seen, **asked)
            place = f"/api/v1/models/{model_name}/versions/{version.semver}"
            return Response(version_show(version), status=201, headers={"Location": place})

        return register


class VersionView(ApiView):
    action_required = "model.read"

    @operation(
        "version_get",
        "One version",
        tag=TAG,
        path={**MODEL, "version": "major.minor.patch, a number, or an alias."},
        answers={200: VersionSchema},
    )
    def get(self, request: Request, model_name: str, version: str) -> Response:
        return Response(version_show(version_by(model_name, version, actor=actor_of(request))))


class CompareView(ApiView):
    action_required = "model.read"

    @operation(
        "version_compare",
        "Could candidate take over the calls made for stable?",
        tag=TAG,
        path=MODEL,
        query=CompareQuery,
        answers={200: ComparisonSchema},
    )
    def get(self, request: Request, model_name: str) -> Response:
        asked = query_of(request, CompareQuery)
        actor = actor_of(request)
        stable = version_by(model_name, asked["stable"], actor=actor)
        candidate = version_by(model_name, asked["candidate"], actor=actor)
        differences = drop_in_problems(stable, candidate)
        return Response(
            {
                "object": "version_comparison",
                "model": model_name,
                "stable": stable.reference,
                "candidate": candidate.reference,
                "is_drop_in": not differences,
                "differences": [difference.as_dict() for difference in differences],
            }
        )
