"""Models: listed, searched, made, described, renamed, deleted."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import transaction
from django.db.models import Prefetch
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api_access import idempotent
from apps.kernel.errors import InvalidInput
from apps.kernel.rest import (
    ApiView,
    DryRunQuery,
    StrictChar,
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
from apps.registry.api.shapes import ModelSchema, model_show, revision_of
from apps.registry.domain.names import MAX_NAME
from apps.registry.models import Model, ModelVersion
from apps.registry.selectors import model_get, readable_q
from apps.registry.selectors.search import search_models
from apps.registry.services.catalogue import model_delete, model_describe, model_rename
from apps.registry.services.locks import model_locked
from apps.registry.services.register import model_create

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


class ModelChange(StrictSerializer):
    name = StrictChar(max_length=MAX_NAME, required=False, help_text="Its new name; numbers go on where they are.")
    description = StrictChar(max_length=10_000, allow_blank=True, required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs:
            raise serializers.ValidationError("Say what changes: name, description, or both.", "nothing")
        return attrs


class ReasonQuery(StrictSerializer):
    reason = StrictChar(max_length=300, help_text="Kept in the audit log.")


class ModelsView(ApiView):
    action_required: ClassVar = {"GET": "model.read", "POST": "model.register"}

    @operation(
        "model_list",
        "Models by name, or what a filter finds",
        tag=TAG,
        query=FilterQuery,
        answers={200: page_schema("Model", ModelSchema)},
    )
    def get(self, request: Request) -> Response:
        actor, asked = actor_of(request), query_of(request, FilterQuery)
        versions = ModelVersion.objects.only("id", "model_id", "number", "major", "minor", "patch")
        rows = Model.objects.select_related("team").prefetch_related(
            Prefetch("versions", versions), Prefetch("aliases__version", versions), "tags"
        )
        if is_filtered(asked):
            return Response(found_of(asked, lambda **how: search_models(actor=actor, **how), rows, model_show))
        found = rows.filter(readable_q(actor, "team_id"))
        return Response(page_of(found, key="name", show=model_show, limit=asked["limit"], cursor=asked.get("cursor")))

    @operation(
        "model_create",
        "A model without versions",
        tag=TAG,
        body=ModelBody,
        errors=(404,),
        is_idempotent=True,
        answers={201: ModelSchema},
    )
    @idempotent
    def post(self, request: Request) -> Response:
        model = model_create(actor=actor_of(request), **body_of(request, ModelBody))
        return Response(model_show(model), status=201, headers={"Location": f"/api/v1/models/{model.name}"})


class ModelView(ApiView):
    action_required: ClassVar = {"GET": "model.read", "PATCH": "model.write", "DELETE": "model.delete"}

    @operation("model_get", "One model", tag=TAG, path=MODEL, has_etag=True, answers={200: ModelSchema})
    def get(self, request: Request, model_name: str) -> Response:
        return _shown(model_get(model_name, actor=actor_of(request)))

    @operation(
        "model_change",
        "Describe a model, or rename it",
        tag=TAG,
        description="The old name leaves a tombstone: a model made under it later does not count from 1 again.",
        path=MODEL,
        query=DryRunQuery,
        body=ModelChange,
        errors=(409,),
        needs_if_match=True,
        answers={200: ModelSchema},
    )
    @rehearsable
    def patch(self, request: Request, model_name: str) -> Response:
        actor, asked = actor_of(request), body_of(request, ModelChange)
        with transaction.atomic():
            if_match(request, revision_of(model_locked(model_name, actor=actor, action="model.write")))
            if "description" in asked:
                model_describe(actor=actor, name=model_name, description=asked["description"])
            name = asked.get("name", model_name)
            try:
                model_rename(actor=actor, name=model_name, new_name=name)
            except InvalidInput as error:
                raise InvalidInput.at("/name", error.code, error.detail) from error
            return _shown(model_get(name, actor=actor))

    @operation(
        "model_delete",
        "Delete a model, its versions and aliases; rows, numbers and history stay",
        tag=TAG,
        description="Refused while an endpoint runs one of its versions, or a protected alias points at one.",
        path=MODEL,
        query=ReasonQuery,
        needs_if_match=True,
        answers={204: None},
    )
    def delete(self, request: Request, model_name: str) -> Response:
        actor, reason = actor_of(request), query_of(request, ReasonQuery)["reason"]
        with transaction.atomic():
            if_match(request, revision_of(model_locked(model_name, actor=actor, action="model.delete")))
            model_delete(actor=actor, name=model_name, reason=reason)
        return Response(status=204)


def _shown(model: Model) -> Response:
    return with_etag(model_show(model), revision_of(model))
