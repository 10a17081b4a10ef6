"""``GET /access/explain``: what may somebody do, why, and what would turn it around."""

from __future__ import annotations

from typing import Any, cast

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api.shapes import PLACES
from apps.accounts.domain.doors import SIGNED_IN
from apps.accounts.domain.roles import who_can
from apps.accounts.models import User
from apps.accounts.services.explaining import access_explain, principal_find
from apps.accounts.services.seen import accounts_visible, team_seen
from apps.kernel.actor import ANY
from apps.kernel.rest import ApiView, StrictChar, StrictSerializer, actor_of, operation, query_of

ASKED_PLACES = [*PLACES, ANY]
CHANGES = ["give_role", "take_role", "widen_limits", "narrow_limits", "activate"]


class ExplainQuery(StrictSerializer):
    principal = StrictChar(
        required=False, max_length=150, help_text="Account name or id, plh_<key id>, or ct_…; default: whoever calls."
    )
    action = StrictChar(max_length=60)
    team = StrictChar(required=False, max_length=40, help_text="Id or slug; * for every team; default: some team.")
    environment = serializers.ChoiceField(choices=ASKED_PLACES, required=False)


class AccessRuleSchema(serializers.Serializer[Any]):
    sentence = serializers.CharField()
    is_met = serializers.BooleanField()


class AccessChangeSchema(serializers.Serializer[Any]):
    kind = serializers.ChoiceField(choices=CHANGES)
    sentence = serializers.CharField()
    role = serializers.CharField(allow_blank=True)
    team = serializers.CharField(allow_blank=True)
    environment = serializers.CharField(allow_blank=True)


class ExplainSchema(serializers.Serializer[Any]):
    object = serializers.CharField()
    principal = serializers.CharField()
    action = serializers.CharField()
    is_allowed = serializers.BooleanField()
    rules = AccessRuleSchema(many=True)
    flip = AccessChangeSchema(many=True, help_text="The changes that together turn the answer around.")
    roles = serializers.ListField(child=serializers.CharField(), help_text="The roles that include the action.")


class ExplainView(ApiView):
    action_required = SIGNED_IN

    @operation(
        "access_explain",
        "What may somebody do, and why?",
        tag="people",
        description="About oneself always; about others whom one may see.",
        query=ExplainQuery,
        answers={200: ExplainSchema},
        errors=(404,),
    )
    def get(self, request: Request) -> Response:
        actor, asked = actor_of(request), query_of(request, ExplainQuery)
        name = asked.get("principal") or ("plh_" if actor.kind == "key" else "") + actor.id
        own = User.objects.filter(pk=cast(User, request.user).pk)
        principal = principal_find(name, {*accounts_visible(actor), *own})
        team = asked.get("team")
        team_id = team if team in {None, ANY} else team_seen(actor, str(team)).pk
        found = access_explain(principal, asked["action"], team_id, asked.get("environment"))
        return Response(
            {
                "object": "explanation",
                "principal": principal.label,
                "action": asked["action"],
                "is_allowed": found.is_allowed,
                "rules": [{"sentence": rule.sentence, "is_met": rule.is_met} for rule in found.rules],
                "flip": [
                    {name: getattr(change, name) for name in ("kind", "sentence", "role", "team", "environment")}
                    for change in found.flip
                ],
                "roles": [role.value for role in who_can(asked["action"])],
            }
        )
