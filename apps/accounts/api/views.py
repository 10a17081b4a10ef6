"""Who am I, and the keys that act for me."""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.domain.doors import SIGNED_IN
from apps.accounts.domain.roles import Role
from apps.accounts.models import ApiToken, User
from apps.accounts.services.access import access_allows, roles_of
from apps.accounts.services.tokens import token_make, token_revoke
from apps.kernel.rest import (
    ApiView,
    PageQuery,
    StrictChar,
    StrictDateTime,
    StrictSerializer,
    actor_of,
    body_of,
    iso,
    operation,
    page_of,
    page_schema,
    query_of,
)

TAG = "accounts"


class MeSchema(serializers.Serializer[Any]):
    object = serializers.CharField()
    kind = serializers.ChoiceField(choices=["user", "key"])
    username = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]
    roles = serializers.ListField(child=serializers.ChoiceField(choices=[role.value for role in Role]))
    actions = serializers.ListField(child=serializers.CharField(), help_text="What this caller may do.")


class TokenSchema(serializers.Serializer[Any]):
    id = serializers.CharField()
    object = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]
    username = serializers.CharField()
    roles = serializers.ListField(child=serializers.ChoiceField(choices=[role.value for role in Role]))
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)


class NewTokenSchema(TokenSchema):
    token = serializers.CharField(help_text="The key itself, shown this once.")


class TokenBody(StrictSerializer):
    label = StrictChar(max_length=80, help_text="Where the key will be used.")  # type: ignore[assignment]
    roles = serializers.ListField(
        child=serializers.ChoiceField(choices=[role.value for role in Role]), min_length=1, max_length=len(Role)
    )
    expires_at = StrictDateTime(required=False, allow_null=True, default=None)


class MeView(ApiView):
    action_required = SIGNED_IN

    @operation("me_get", "Who am I, and what may I do?", tag=TAG, answers={200: MeSchema})
    def get(self, request: Request) -> Response:
        actor, user = actor_of(request), cast(User, request.user)
        roles = roles_of(user)
        if isinstance(request.auth, ApiToken):
            roles &= frozenset(Role(role) for role in request.auth.roles)
        return Response(
            {
                "object": "me",
                "kind": actor.kind,
                "username": user.get_username(),
                "label": actor.label,
                "roles": sorted(roles),
                "actions": sorted(actor.actions),
            }
        )


class TokensView(ApiView):
    action_required = SIGNED_IN

    @operation(
        "token_list",
        "API keys: one's own; everybody's with the right to revoke them",
        tag=TAG,
        query=PageQuery,
        answers={200: page_schema("Token", TokenSchema)},
    )
    def get(self, request: Request) -> Response:
        found = ApiToken.objects.select_related("user")
        if not access_allows(actor_of(request), "token.write"):
            found = found.filter(user=cast(User, request.user))
        return Response(page_of(found, key="id", show=token_show, **query_of(request, PageQuery)))

    # Deliberately not idempotent: a stored answer would keep the key's text in the database.
    @operation(
        "token_create",
        "Make a key of one's own",
        tag=TAG,
        description="Signed in only: a key cannot make keys. The text of the key is in this answer and nowhere else.",
        body=TokenBody,
        answers={201: NewTokenSchema},
    )
    def post(self, request: Request) -> Response:
        asked = body_of(request, TokenBody)
        expires_at: datetime | None = asked["expires_at"]
        token, text = token_make(
            actor=actor_of(request),
            user=cast(User, request.user),
            label=asked["label"],
            roles=frozenset(Role(role) for role in asked["roles"]),
            expires_at=expires_at,
        )
        headers = {"Location": f"/api/v1/tokens/{token.id}", "Cache-Control": "no-store"}
        return Response({**token_show(token), "token": text}, status=201, headers=headers)


class TokenView(ApiView):
    action_required = SIGNED_IN

    @operation(
        "token_revoke",
        "Switch a key off, for good",
        tag=TAG,
        path={"token_id": "The 12 characters after `plh_`."},
        answers={200: TokenSchema},
    )
    def delete(self, request: Request, token_id: str) -> Response:
        return Response(token_show(token_revoke(actor=actor_of(request), token_id=token_id)))


def token_show(token: ApiToken) -> dict[str, Any]:
    """A key without its secret, which nobody has."""
    return {
        "id": token.id,
        "object": "token",
        "label": token.label,
        "username": token.user.get_username(),
        "roles": sorted(token.roles),
        "created_at": iso(token.created_at),
        "expires_at": iso(token.expires_at),
        "last_used_at": iso(token.last_used_at),
        "revoked_at": iso(token.revoked_at),
    }
