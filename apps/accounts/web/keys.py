"""The keys that verify what we sign, for whoever wants to."""

from __future__ import annotations

from django.http import HttpRequest, JsonResponse

from apps.accounts.domain.doors import PUBLIC
from apps.accounts.services.signing import jwks
from apps.accounts.web_access import declares


@declares({"GET": PUBLIC})
def jwks_document(request: HttpRequest) -> JsonResponse:
    """``/.well-known/jwks.json``: the public keys that verify our tokens now."""
    return JsonResponse(jwks(), headers={"Cache-Control": "public, max-age=60"})
