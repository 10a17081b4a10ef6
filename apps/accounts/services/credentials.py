"""One question for every protocol's door: who is behind this bearer text?"""

from __future__ import annotations

from apps.accounts.models import ApiToken, CiTrust, User
from apps.accounts.services.exchange import jwt_actor
from apps.accounts.services.signing import JwtRefused
from apps.accounts.services.tokens import TokenRefused, token_actor
from apps.kernel.actor import Actor


def credential_actor(text: str, *, address: str = "", request_id: str = "") -> tuple[User, ApiToken | CiTrust, Actor]:
    """Account, key or trust, and actor of an API key (``plh_…``) or a token of ours (a JWT). One query.

    Raises TokenRefused with a reason that is safe to send back.
    """
    if text.count(".") == 2 and not text.startswith("plh_"):
        try:
            trust, actor = jwt_actor(text, request_id=request_id)
        except JwtRefused as refused:
            raise TokenRefused(refused.reason) from refused
        return trust.account, trust, actor
    token, actor = token_actor(text, address=address, request_id=request_id)
    return token.user, token, actor
