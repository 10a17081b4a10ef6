"""The ways into the API: a key or a token in ``Authorization: Bearer …``, or the session of a page (CSRF enforced).

Both set ``request.actor``.
"""

from __future__ import annotations

from rest_framework import authentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from apps.accounts.models import ApiToken, CiTrust, User
from apps.accounts.services.access import actor_of
from apps.accounts.services.credentials import credential_actor
from apps.accounts.services.tokens import TokenRefused
from apps.kernel.actor import Actor


class TokenAuthentication(authentication.BaseAuthentication):
    """A wrong key is 401, never "then try the session": a CI job must not act as whoever's cookie is around."""

    def authenticate(self, request: Request) -> tuple[User, ApiToken | CiTrust] | None:
        scheme, _, text = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        address = request.META.get("REMOTE_ADDR", "")
        try:
            user, credential, actor = credential_actor(text.strip(), address=address, request_id=_request_id(request))
        except TokenRefused as refused:
            raise AuthenticationFailed(refused.reason) from refused
        _act_as(request, actor)
        return user, credential

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
