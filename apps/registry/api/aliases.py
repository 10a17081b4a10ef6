"""Aliases: moved, asked for, and who served what on which day; the requests to move protected ones."""

from __future__ import annotations

from typing import ClassVar

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.kernel.clock import now
from apps.kernel.errors import Forbidden
from apps.kernel.rest import (
    ApiView,
    DryRunQuery,
    PageQuery,
    StrictChar,
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
    AliasAtSchema,
    AliasMoveSchema,
    AliasSchema,
    PromotionSchema,
    alias_at_show,
    alias_move_show,
    alias_show,
    promotion_show,
)
from apps.registry.domain.words import PromotionState
from apps.registry.models import AliasMove
from apps.registry.selectors import alias_at, model_get, promotion_get, promotion_list
from apps.registry.services.aliases import alias_move, alias_remove
from apps.registry.services.promotion import PromotionAsked, promotion_withdraw

TAG = "models"
PLACE = {"model_name": "The model's name.", "alias": "Small letters, digits, hyphens, underscores."}
PROMOTION = {"promotion_id": "Its id."}


class AliasBody(StrictSerializer):
    version = StrictChar(max_length=100, help_text="A version, a number or another alias.")
    expected_version = StrictChar(
        max_length=40,
        allow_blank=True,
        required=False,
        help_text="Where you saw the alias point (empty: nowhere); 409 when it has moved since.",
    )


class RemoveQuery(StrictSerializer):
    expected_version = StrictChar(
        max_length=40, required=False, help_text="Where you saw the alias point; 409 when it has moved since."
    )


class AtQuery(StrictSerializer):
    at = serializers.DateTimeField(required=False, help_text="An instant; without it, now.")


class PromotionsQuery(PageQuery):
    state = serializers.ChoiceField(choices=[one.value for one in PromotionState], required=False)


class NoteBody(StrictSerializer):
    note = StrictChar(max_length=2000, allow_blank=True, default="")


class AliasView(ApiView):
    action_required: ClassVar = {"GET": "model.read", "PUT": "alias.move", "DELETE": "alias.move"}

    @operation(
        "alias_at",
        "Which version an alias pointed at, and how it came there",
        tag=TAG,
        description="Who served what on date D: the version under the alias at that instant, with the move, its "
        "request, review, rollout and approvers.",
        path=PLACE,
        query=AtQuery,
        answers={200: AliasAtSchema},
    )
    def get(self, request: Request, model_name: str, alias: str) -> Response:
        moment = query_of(request, AtQuery).get("at") or now()
        found = alias_at(model_name, alias, moment, actor=actor_of(request))
        return Response(alias_at_show(found, model_name, alias, moment))

    @operation(
        "alias_move",
        "Point an alias at a version; made where it is missing",
        tag=TAG,
        description="A protected alias is not moved: a promotion request is opened, and the answer is 403 "
        "`promotion_requested` with its address.",
        path=PLACE,
        query=DryRunQuery,
        body=AliasBody,
        errors=(409,),
        answers={200: AliasSchema},
    )
    @rehearsable
    def put(self, request: Request, model_name: str, alias: str) -> Response:
        asked = body_of(request, AliasBody)
        try:
            moved = alias_move(
                actor=actor_of(request),
                model_name=model_name,
                alias=alias,
                version=asked["version"],
                expected=asked.get("expected_version"),
            )
        except PromotionAsked as told:
            if query_of(request, DryRunQuery)["dry_run"]:  # the request is rolled back, so nothing may name it
                detail = f"The alias {alias} is protected: this would open a promotion request."
                raise Forbidden("promotion_needed", detail, extra={"alias": alias}) from told
            raise
        return Response(alias_show(moved, model_name))

    @operation(
        "alias_remove",
        "Take an alias away; none is no fault",
        tag=TAG,
        description="A protected alias stays: a promotion request is opened, and the answer is 403 "
        "`promotion_requested` with its address.",
        path=PLACE,
        query=RemoveQuery,
        errors=(409,),
        answers={204: None},
    )
    def delete(self, request: Request, model_name: str, alias: str) -> Response:
        expected = query_of(request, RemoveQuery).get("expected_version")
        alias_remove(actor=actor_of(request), model_name=model_name, alias=alias, expected=expected)
        return Response(status=204)


class AliasMovesView(ApiView):
    action_required = "model.read"

    @operation(
        "alias_history",
        "Every move of an alias, newest first",
        tag=TAG,
        path=PLACE,
        query=PageQuery,
        answers={200: page_schema("AliasMove", AliasMoveSchema)},
    )
    def get(self, request: Request, model_name: str, alias: str) -> Response:
        model = model_get(model_name, actor=actor_of(request))
        found = AliasMove.objects.select_related("model", "from_version", "to_version").filter(model=model, name=alias)
        return Response(page_of(found, key="-id", show=alias_move_show, **query_of(request, PageQuery)))


class PromotionsView(ApiView):
    action_required = "model.read"

    @operation(
        "promotion_list",
        "Requests to move protected aliases, newest first",
        tag=TAG,
        query=PromotionsQuery,
        answers={200: page_schema("Promotion", PromotionSchema)},
    )
    def get(self, request: Request) -> Response:
        asked = query_of(request, PromotionsQuery)
        state, found = asked.pop("state", ""), promotion_list(actor_of(request))
        found = found.filter(state=state) if state else found
        return Response(page_of(found, key="-id", show=promotion_show, **asked))


class PromotionView(ApiView):
    action_required = "model.read"

    @operation("promotion_get", "One request", tag=TAG, path=PROMOTION, answers={200: PromotionSchema})
    def get(self, request: Request, promotion_id: str) -> Response:
        return Response(promotion_show(promotion_get(promotion_id, actor=actor_of(request))))


class PromotionWithdrawView(ApiView):
    action_required = "alias.move"

    @operation(
        "promotion_withdraw",
        "Take back a request that you made",
        tag=TAG,
        path=PROMOTION,
        body=NoteBody,
        errors=(409,),
        answers={200: PromotionSchema},
    )
    def post(self, request: Request, promotion_id: str) -> Response:
        done = promotion_withdraw(
            actor=actor_of(request), promotion_id=promotion_id, note=body_of(request, NoteBody)["note"]
        )
        return Response(promotion_show(done))
