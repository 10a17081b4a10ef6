"""Tags of models and versions, one key at a time. The same key and value again is the same state, so there is nothing
to send along: no key of idempotency, no revision."""

from __future__ import annotations

from typing import Any, ClassVar

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.kernel.rest import (
    ApiView,
    DryRunQuery,
    StrictChar,
    StrictSerializer,
    actor_of,
    body_of,
    operation,
    rehearsable,
)
from apps.registry.domain.names import MAX_TAG_VALUE
from apps.registry.selectors import version_by
from apps.registry.services.catalogue import model_tag_remove, model_tag_set
from apps.registry.services.versions import version_tag_remove, version_tag_set

TAG = "models"
KEY = "Letters, digits, and / _ - . : and spaces; at most 250 characters."
MODEL = {"model_name": "The model's name.", "key": KEY}
VERSION = {**MODEL, "version": "major.minor.patch, a number, or an alias."}


class TagBody(StrictSerializer):
    value = StrictChar(max_length=MAX_TAG_VALUE, allow_blank=True, trim_whitespace=False)


class TagSchema(serializers.Serializer[Any]):
    object = serializers.CharField()
    model = serializers.CharField()
    version = serializers.CharField(allow_null=True, help_text="null: a tag of the model.")
    key = serializers.CharField()
    value = serializers.CharField(allow_blank=True)


class ModelTagView(ApiView):
    action_required: ClassVar = {"PUT": "model.write", "DELETE": "model.write"}

    @operation(
        "model_tag_set",
        "Set a tag of a model",
        tag=TAG,
        path=MODEL,
        query=DryRunQuery,
        body=TagBody,
        answers={200: TagSchema},
    )
    @rehearsable
    def put(self, request: Request, model_name: str, key: str) -> Response:
        value = body_of(request, TagBody)["value"]
        model_tag_set(actor=actor_of(request), name=model_name, key=key, value=value)
        return Response(_tag(model_name, None, key, value))

    @operation(
        "model_tag_remove", "Take a model's tag away; none is no fault", tag=TAG, path=MODEL, answers={204: None}
    )
    def delete(self, request: Request, model_name: str, key: str) -> Response:
        model_tag_remove(actor=actor_of(request), name=model_name, key=key)
        return Response(status=204)


class VersionTagView(ApiView):
    action_required: ClassVar = {"PUT": "model.write", "DELETE": "model.write"}

    @operation(
        "version_tag_set",
        "Set a tag of a version",
        tag=TAG,
        path=VERSION,
        query=DryRunQuery,
        body=TagBody,
        answers={200: TagSchema},
    )
    @rehearsable
    def put(self, request: Request, model_name: str, version: str, key: str) -> Response:
        actor, value = actor_of(request), body_of(request, TagBody)["value"]
        found = version_by(model_name, version, actor=actor)
        version_tag_set(actor=actor, model_name=model_name, number=found.number, key=key, value=value)
        return Response(_tag(model_name, found.reference, key, value))

    @operation(
        "version_tag_remove",
        "Take a version's tag away; none is no fault",
        tag=TAG,
        path=VERSION,
        answers={204: None},
    )
    def delete(self, request: Request, model_name: str, version: str, key: str) -> Response:
        actor = actor_of(request)
        found = version_by(model_name, version, actor=actor)
        version_tag_remove(actor=actor, model_name=model_name, number=found.number, key=key)
        return Response(status=204)


def _tag(model_name: str, version: str | None, key: str, value: str) -> dict[str, Any]:
    return {"object": "tag", "model": model_name, "version": version, "key": key, "value": value}
