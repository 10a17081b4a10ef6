"""Who am I, and the keys that act for me or for a service account of my team."""

from __future__ import annotations

from typing import Any, cast

from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api.shapes import MeSchema, NewTokenSchema, TokenBody, TokenSchema, token_show
from apps.accounts.domain.doors import SIGNED_IN
from apps.accounts.domain.roles import Role
from apps.accounts.models import ApiToken, User
from apps.accounts.selectors import service_get
from apps.accounts.services.step_up import step_up_require
from apps.accounts.services.tokens import token_make, token_revoke, token_rotate, token_visible
from apps.kernel.rest import ApiView, PageQuery, actor_of, body_of, operation, page_of, page_schema, query_of

TAG = "accounts"
KEY_PATH = {"token_id": "The 12 characters after `plh_`."}


class MeView(ApiView):
    action_required = SIGNED_IN

    @operation("me_get", "Who am I, and what may I do?", tag=TAG, answers={200: MeSchema})
    def get(self, request: Request) -> Response:
        actor, user = actor_of(request), cast(User, request.user)
        return Response(
            {
                "object": "me",
                "kind": actor.kind,
                "username": user.get_username(),
                "label": actor.label,
                "roles": sorted({grant.source for grant in actor.grants}),
                "actions": sorted(actor.actions),
                "chain": list(actor.chain),
            }
        )


class TokensView(ApiView):
    action_required = SIGNED_IN

    @operation(
        "token_list",
        "API keys: one's own; those of one's teams with the right to revoke them",
        tag=TAG,
        query=PageQuery,
        answers={200: page_schema("Token", TokenSchema)},
    )
    def get(self, request: Request) -> Response:
        own = token_visible(actor_of(request))
        if actor_of(request).kind != "user":  # a key sees the keys of its account
            own = own | ApiToken.objects.select_related("user__owner_team").filter(user=cast(User, request.user))
        return Response(page_of(own, key="id", show=token_show, **query_of(request, PageQuery)))

    # Deliberately not idempotent: a stored answer would keep the key's text in the database.
    @operation(
        "token_create",
        "Make a key of one's own, or of a service account",
        tag=TAG,
        description="Signed in recently: a key cannot make keys. The key is in this answer and nowhere else.",
        body=TokenBody,
        answers={201: NewTokenSchema},
    )
    def post(self, request: Request) -> Response:
        asked = body_of(request, TokenBody)
        service = asked.pop("service", None)
        step_up_require(request._request, actor_of(request))
        token, text = token_make(
            actor=actor_of(request),
            user=service_get(service) if service else cast(User, request.user),
            **{**asked, "roles": frozenset(Role(role) for role in asked["roles"])},
        )
        return _shown_once(token, text)


class TokenView(ApiView):
    action_required = SIGNED_IN

    @operation("token_revoke", "Switch a key off, for good", tag=TAG, path=KEY_PATH, answers={200: TokenSchema})
    def delete(self, request: Request, token_id: str) -> Response:
        return Response(token_show(token_revoke(actor=actor_of(request), token_id=token_id)))


class TokenRotateView(ApiView):
    action_required = SIGNED_IN

    @operation(
        "token_rotate",
        "Replace a key; the old one works for 24 more hours",
        tag=TAG,
        description="The text of the new key is in this answer and nowhere else.",
        path=KEY_PATH,
        answers={201: NewTokenSchema},
        errors=(409,),
    )
    def post(self, request: Request, token_id: str) -> Response:
        step_up_require(request._request, actor_of(request))
        return _shown_once(*token_rotate(actor=actor_of(request), token_id=token_id))


def _shown_once(token: ApiToken, text: str) -> Response:
    headers = {"Location": f"/api/v1/tokens/{token.id}", "Cache-Control": "no-store"}
    data: dict[str, Any] = {**token_show(token), "token": text}
    return Response(data, status=201, headers=headers)
