"""Versions: listed, searched, registered, described, staged, deleted, compared."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from django.db import transaction
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api_access import idempotent_prepared
from apps.kernel.actor import Actor
from apps.kernel.rest import (
    ApiView,
    DryRunQuery,
    StrictBoolean,
    StrictChar,
    StrictObject,
    StrictSerializer,
    actor_of,
    body_of,
    if_match,
    operation,
    page_of,
    page_schema,
    query_of,
    rehearsable,
    with_etag,
)
from apps.registry.api.finding import FilterQuery, found_of, is_filtered
from apps.registry.api.shapes import ComparisonSchema, VersionSchema, comparison_show, revision_of, version_show
from apps.registry.api.views import ReasonQuery
from apps.registry.domain.words import Stage
from apps.registry.models import Model, ModelVersion
from apps.registry.selectors import model_get, version_by
from apps.registry.selectors.search import search_versions
from apps.registry.services.locks import model_locked
from apps.registry.services.register import artifact_read, version_register
from apps.registry.services.versions import version_delete, version_describe, version_stage

TAG = "models"
MODEL = {"model_name": "The model's name."}
VERSION = {**MODEL, "version": "major.minor.patch, a number, an alias, latest, or a line such as s1 or s1-2."}
PAGE = page_schema("ModelVersion", VersionSchema)
ROWS = ModelVersion.objects.select_related("model").prefetch_related("aliases", "tags")


class VersionBody(StrictSerializer):
    version = StrictChar(max_length=40, help_text="major.minor.patch; major changes the schema.")
    path = StrictChar(max_length=900, help_text="The folder that mlflow saved the model to: a path or a file:// URI.")
    metrics = StrictObject(default=dict)
    params = StrictObject(default=dict)
    run_id = StrictChar(max_length=64, allow_blank=True, default="")
    description = StrictChar(max_length=10_000, allow_blank=True, default="")


class VersionChange(StrictSerializer):
    description = StrictChar(max_length=10_000, allow_blank=True)


class StageBody(StrictSerializer):
    stage = serializers.ChoiceField(choices=[stage.value for stage in Stage])
    archive_existing = StrictBoolean(
        default=False, help_text="Whatever is in that stage goes to archived first; staging and production only."
    )


class CompareQuery(StrictSerializer):
    stable = StrictChar(max_length=100)
    candidate = StrictChar(max_length=100)


class VersionsView(ApiView):
    action_required: ClassVar = {"GET": "model.read", "POST": "model.register"}

    @operation(
        "version_list",
        "Versions, newest registration first, or what a filter finds among them",
        tag=TAG,
        path=MODEL,
        query=FilterQuery,
        answers={200: PAGE},
    )
    def get(self, request: Request, model_name: str) -> Response:
        actor, asked = actor_of(request), query_of(request, FilterQuery)
        model = model_get(model_name, actor=actor)
        if is_filtered(asked):
            search = partial(search_versions, actor=actor, model=model)
            return Response(found_of(asked, search, ROWS.all(), version_show))
        found = ROWS.filter(model=model)
        return Response(
            page_of(found, key="-number", show=version_show, limit=asked["limit"], cursor=asked.get("cursor"))
        )

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


class FoundVersionsView(ApiView):
    action_required = "model.read"

    @operation(
        "version_search",
        "Versions of every model that a filter finds, the one that changed last first",
        tag=TAG,
        query=FilterQuery,
        answers={200: PAGE},
    )
    def get(self, request: Request) -> Response:
        search = partial(search_versions, actor=actor_of(request))
        return Response(found_of(query_of(request, FilterQuery), search, ROWS.all(), version_show))


class VersionView(ApiView):
    action_required: ClassVar = {"GET": "model.read", "PATCH": "model.write", "DELETE": "model.delete"}

    @operation("version_get", "One version", tag=TAG, path=VERSION, has_etag=True, answers={200: VersionSchema})
    def get(self, request: Request, model_name: str, version: str) -> Response:
        return _shown(version_by(model_name, version, actor=actor_of(request)))

    @operation(
        "version_change",
        "Describe a version",
        tag=TAG,
        path=VERSION,
        query=DryRunQuery,
        body=VersionChange,
        needs_if_match=True,
        answers={200: VersionSchema},
    )
    @rehearsable
    def patch(self, request: Request, model_name: str, version: str) -> Response:
        actor, asked = actor_of(request), body_of(request, VersionChange)
        with transaction.atomic():
            found = _seen(request, actor, model_name, version, "model.write")
            done = version_describe(actor=actor, model_name=model_name, number=found.number, **asked)
        return _shown(done)

    @operation(
        "version_delete",
        "Delete a version and its aliases; its row, number and semver stay",
        tag=TAG,
        description="Refused while an endpoint runs it, or a protected alias points at it.",
        path=VERSION,
        query=ReasonQuery,
        needs_if_match=True,
        answers={204: None},
    )
    def delete(self, request: Request, model_name: str, version: str) -> Response:
        actor, reason = actor_of(request), query_of(request, ReasonQuery)["reason"]
        with transaction.atomic():
            found = _seen(request, actor, model_name, version, "model.delete")
            version_delete(actor=actor, model_name=model_name, number=found.number, reason=reason)
        return Response(status=204)


class StageView(ApiView):
    action_required: ClassVar = {"PUT": "alias.move"}

    @extend_schema(deprecated=True)  # type: ignore[untyped-decorator]
    @operation(
        "version_stage",
        "Move a version to a stage; aliases say it better",
        tag=TAG,
        description="For pipelines that still use MLflow's stages. Production holds one version: another one there is "
        "409 `stage_taken`, unless `archive_existing`.",
        path=VERSION,
        query=DryRunQuery,
        body=StageBody,
        errors=(409,),
        answers={200: VersionSchema},
    )
    @rehearsable
    def put(self, request: Request, model_name: str, version: str) -> Response:
        actor, asked = actor_of(request), body_of(request, StageBody)
        found = version_by(model_name, version, actor=actor)
        stage, archive = Stage(asked["stage"]), asked["archive_existing"]
        done = version_stage(
            actor=actor, model_name=model_name, number=found.number, stage=stage, archive_existing=archive
        )
        return Response(version_show(done))


class CompareView(ApiView):
    action_required = "model.read"

    @operation(
        "version_compare",
        "Could candidate take over the calls made for stable? And everything else that differs",
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
        return Response(comparison_show(stable, candidate))


def _seen(request: Request, actor: Actor, model_name: str, version: str, action: str) -> ModelVersion:
    """The version that If-Match names, its model's row locked: nobody changes it in between."""
    model: Model = model_locked(model_name, actor=actor, action=action)
    found = version_by(model.name, version, actor=actor)
    if_match(request, revision_of(found))
    return found


def _shown(version: ModelVersion) -> Response:
    data: dict[str, Any] = version_show(version)
    return with_etag(data, revision_of(version))
