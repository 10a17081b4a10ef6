"""Models, versions, aliases and what a version would break."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api_access import idempotent, idempotent_prepared
from apps.kernel.rest import (
    ApiView,
    DryRunQuery,
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
    rehearsable,
)
from apps.registry.api.shapes import (
    AliasSchema,
    ComparisonSchema,
    ModelSchema,
    VersionSchema,
    alias_show,
    model_show,
    version_show,
)
from apps.registry.models import Model, ModelVersion
from apps.registry.selectors import drop_in_problems, model_get, version_by
from apps.registry.services.register import alias_move, artifact_read, model_create, version_register

TAG = "models"
MODEL = {"model_name": "The model's name."}


class ModelBody(StrictSerializer):
    name = StrictChar(max_length=100)
    description = StrictChar(max_length=10_000, allow_blank=True, default="")


class VersionBody(StrictSerializer):
    version = StrictChar(max_length=40, help_text="major.minor.patch; major changes the schema.")
    path = StrictChar(max_length=900, help_text="The folder that mlflow saved the model to: a path or a file:// URI.")
    metrics = StrictObject(default=dict)
    params = StrictObject(default=dict)
    run_id = StrictChar(max_length=64, allow_blank=True, default="")
    description = StrictChar(max_length=10_000, allow_blank=True, default="")


class AliasBody(StrictSerializer):
    version = StrictChar(max_length=100, help_text="A version, a number or another alias.")
    expected_version = StrictChar(
        max_length=40,
        allow_blank=True,
        required=False,
        help_text="Where you saw the alias point (empty: nowhere); 409 when it has moved since.",
    )


class CompareQuery(StrictSerializer):
    stable = StrictChar(max_length=100)
    candidate = StrictChar(max_length=100)


class ModelsView(ApiView):
    action_required: ClassVar = {"GET": "model.read", "POST": "model.register"}

    @operation(
        "model_list", "Models by name", tag=TAG, query=PageQuery, answers={200: page_schema("Model", ModelSchema)}
    )
    def get(self, request: Request) -> Response:
        found = Model.objects.prefetch_related("versions", "aliases__version")
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
        return Response(model_show(model_get(model_name)))


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
        return Response(page_of(found.filter(model=model_get(model_name)), key="-number", show=version_show, **asked))

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
        semver, artifact = asked.pop("version"), artifact_read(asked["path"])

        def register() -> Response:
            version = version_register(
                actor=actor_of(request), model_name=model_name, semver=semver, artifact=artifact, **asked
            )
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
        return Response(version_show(version_by(model_name, version)))


class AliasView(ApiView):
    action_required = "alias.move"

    @operation(
        "alias_move",
        "Point an alias at a version; made where it is missing",
        tag=TAG,
        path={**MODEL, "alias": "Small letters, digits, hyphens, underscores."},
        query=DryRunQuery,
        body=AliasBody,
        errors=(409,),
        answers={200: AliasSchema},
    )
    @rehearsable
    def put(self, request: Request, model_name: str, alias: str) -> Response:
        asked = body_of(request, AliasBody)
        moved = alias_move(
            actor=actor_of(request),
            model_name=model_name,
            alias=alias,
            version=asked["version"],
            expected=asked.get("expected_version"),
        )
        return Response(alias_show(moved, model_name))


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
        stable, candidate = version_by(model_name, asked["stable"]), version_by(model_name, asked["candidate"])
        differences = drop_in_problems(stable, candidate)
        return Response(
            {
                "object": "version_comparison",
                "model": model_name,
                "stable": stable.semver,
                "candidate": candidate.semver,
                "is_drop_in": not differences,
                "differences": [difference.as_dict() for difference in differences],
            }
        )
