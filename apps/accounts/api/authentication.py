"""The two ways into the API: a key in ``Authorization: Bearer plh_…``, or the session of a page (CSRF enforced).

Both set ``request.actor``.
"""

from __future__ import annotations

from rest_framework import authentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from apps.accounts.models import ApiToken, User
from apps.accounts.services.access import actor_of, actor_of_token
from apps.accounts.services.tokens import TokenRefused, token_verify
from apps.kernel.actor import Actor


class TokenAuthentication(authentication.BaseAuthentication):
    """A wrong key is 401, never "then try the session": a CI job must not act as whoever's cookie is around."""

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        scheme, _, text = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        try:
            token = token_verify(text.strip())
        except TokenRefused as refused:
            raise AuthenticationFailed(refused.reason) from refused
        _act_as(request, actor_of_token(token, _request_id(request)))
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        """Makes a missing sign-in 401 and not 403."""
        return 'Bearer realm="pilothouse"'


class SessionAuthentication(authentication.SessionAuthentication):
    """Django's session; unsafe methods need the CSRF token."""

    def authenticate(self, request: Request) -> tuple[User, None] | None:
        found = super().authenticate(request)
        if found is None:
            return None
        user = found[0]
        _act_as(request, actor_of(user, _request_id(request)))
        return user, None


def _act_as(request: Request, actor: Actor) -> None:
    request.actor = actor  # type: ignore[attr-defined]
    request._request.actor = actor  # type: ignore[attr-defined]


def _request_id(request: Request) -> str:
    return str(getattr(request, "request_id", ""))
