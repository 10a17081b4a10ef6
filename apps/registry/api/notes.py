"""What people write about models and versions: the card, and which aliases are protected."""

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
from apps.registry.domain.names import MAX_DESCRIPTION
from apps.registry.models import ModelVersion
from apps.registry.selectors import version_by
from apps.registry.services.catalogue import model_protect
from apps.registry.services.versions import version_card_set

TAG = "models"
MODEL = {"model_name": "The model's name."}
VERSION = {**MODEL, "version": "major.minor.patch, a number, or an alias."}


class CardBody(StrictSerializer):
    card = StrictChar(max_length=MAX_DESCRIPTION, allow_blank=True, help_text="Markdown; empty: the generated card.")


class CardSchema(serializers.Serializer[Any]):
    model = serializers.CharField()
    version = serializers.CharField()
    card = serializers.CharField(allow_blank=True, help_text="What people wrote; empty while nobody has.")


class ProtectBody(StrictSerializer):
    aliases = serializers.ListField(
        child=StrictChar(max_length=255), max_length=100, help_text="All of them; the list replaces the one before."
    )
    reason = StrictChar(max_length=2000, help_text="Kept in the audit log.")


class ProtectedSchema(serializers.Serializer[Any]):
    model = serializers.CharField()
    protected_aliases = serializers.ListField(child=serializers.CharField())


class CardView(ApiView):
    action_required: ClassVar = {"GET": "model.read", "PUT": "model.write"}

    @operation("version_card_get", "A version's model card", tag=TAG, path=VERSION, answers={200: CardSchema})
    def get(self, request: Request, model_name: str, version: str) -> Response:
        return Response(_card(version_by(model_name, version, actor=actor_of(request))))

    @operation(
        "version_card_set",
        "Write a version's model card",
        tag=TAG,
        path=VERSION,
        query=DryRunQuery,
        body=CardBody,
        answers={200: CardSchema},
    )
    @rehearsable
    def put(self, request: Request, model_name: str, version: str) -> Response:
        actor, asked = actor_of(request), body_of(request, CardBody)
        found = version_by(model_name, version, actor=actor)
        written = version_card_set(actor=actor, model_name=model_name, number=found.number, card=asked["card"])
        return Response(_card(written))


class ProtectedAliasesView(ApiView):
    action_required: ClassVar = {"PUT": "policy.write"}

    @operation(
        "model_protect",
        "Say which aliases of a model move by a promotion request only",
        tag=TAG,
        path=MODEL,
        query=DryRunQuery,
        body=ProtectBody,
        answers={200: ProtectedSchema},
    )
    @rehearsable
    def put(self, request: Request, model_name: str) -> Response:
        asked = body_of(request, ProtectBody)
        model = model_protect(
            actor=actor_of(request), name=model_name, aliases=asked["aliases"], reason=asked["reason"]
        )
        return Response({"model": model.name, "protected_aliases": model.protected_aliases})


def _card(version: ModelVersion) -> dict[str, str]:
    return {"model": version.model.name, "version": version.reference, "card": version.card}
