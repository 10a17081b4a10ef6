"""What the product tells allauth: no sign-up, sign-ins audited, second factors sealed, people known by subject."""

from __future__ import annotations

import json
from typing import Any, Final

import jwt
import structlog
from allauth.account.adapter import DefaultAccountAdapter
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from allauth.socialaccount.providers.openid_connect.views import OpenIDConnectOAuth2Adapter
from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.db import transaction
from django.http import HttpRequest, HttpResponseRedirect
from django.shortcuts import resolve_url

from apps.accounts.models import User, UserKind
from apps.audit.services.record import event_record
from apps.kernel.actor import Actor
from apps.kernel.clock import now
from apps.kernel.vault import Place, open_sealed, seal

log = structlog.get_logger(__name__)
BACKEND: Final = "django.contrib.auth.backends.ModelBackend"
# allauth seals before there is a row, so the place is the field alone.
_FACTOR: Final = Place("mfa_authenticator", "", "data")


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    """Sign-in of people."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def login(self, request: HttpRequest, user: AbstractBaseUser) -> None:
        """Every way in ends here, second factor included: the session gets a new key, the log an entry."""
        if not isinstance(user, User) or user.kind != UserKind.PERSON:
            raise PermissionError("a service account does not sign in")
        user.backend = BACKEND
        super().login(request, user)
        request.session["signed_in_at"] = request.session["seen_at"] = now().timestamp()
        methods = [item.get("method") for item in request.session.get("account_authentication_methods", [])]
        person_record(user, "user.signed_in", request, {"methods": methods})

    def add_message(self, request: HttpRequest, level: int, *args: Any, **kwargs: Any) -> None:
        """Our pages say themselves what happened."""

    def send_mail(self, *args: Any, **kwargs: Any) -> None:
        """There is no mail server to count on; links are handed over by whoever made them."""


class SocialAdapter(DefaultSocialAccountAdapter):  # type: ignore[misc]
    """People who come from the identity provider: a new subject is a new account without a role."""

    def is_open_for_signup(self, request: HttpRequest, sociallogin: Any) -> bool:
        return True

    def save_user(self, request: HttpRequest, sociallogin: Any, form: Any = None) -> Any:
        with transaction.atomic():
            user = super().save_user(request, sociallogin, form)
            detail = {"issuer": settings.PILOTHOUSE_OIDC_NAME, "subject": sociallogin.account.uid, "roles": []}
            person_record(user, "user.created", request, detail)
        return user

    def pre_social_login(self, request: HttpRequest, sociallogin: Any) -> None:
        """An address is nothing that we verify or use: it must neither match nor block anybody."""
        sociallogin.email_addresses = []
        if not sociallogin.is_existing:
            sociallogin.user.email = ""

    def on_authentication_error(self, request: HttpRequest, provider: Any, **kwargs: Any) -> None:
        """Back to the sign-in page, which says so; what went wrong is in the log, not in the address."""
        log.warning("sso.failed", error=str(kwargs.get("error")), cause=repr(kwargs.get("exception")))
        raise ImmediateHttpResponse(HttpResponseRedirect(f"{resolve_url(settings.LOGIN_URL)}?sso=failed"))


class MfaAdapter(DefaultMFAAdapter):  # type: ignore[misc]
    """Second factors, sealed at rest."""

    def encrypt(self, text: str) -> str:
        return seal(text, _FACTOR)

    def decrypt(self, encrypted_text: str) -> str:
        return open_sealed(encrypted_text, _FACTOR)


class VerifyingOidcAdapter(OpenIDConnectOAuth2Adapter):  # type: ignore[misc]
    """The stock flow, but the ID token's signature is always checked, by RS256 or ES256 and the provider's own keys.

    OpenID Connect Core 3.1.3.7 would allow to skip that on a direct TLS connection; then whoever can answer for the
    token endpoint would be whoever they like.
    """

    def _decode_id_token(self, app: Any, id_token: str) -> dict[str, Any]:
        config = self.openid_config
        if config["issuer"].rstrip("/") != app.settings["server_url"].partition("/.well-known/")[0].rstrip("/"):
            raise OAuth2Error("the provider names another issuer")
        try:
            key = self._key(id_token, config["jwks_uri"])
            return jwt.decode(
                id_token,
                key,
                algorithms=["RS256", "ES256"],
                audience=app.client_id,
                issuer=config["issuer"],
                leeway=30,
                options={"require": ["exp", "iat", "iss", "aud", "sub"]},
            )
        except (jwt.PyJWTError, KeyError, ValueError) as error:
            raise OAuth2Error("Invalid id_token") from error

    def _key(self, id_token: str, url: str) -> Any:
        kid = jwt.get_unverified_header(id_token).get("kid")
        from allauth.socialaccount.adapter import get_adapter

        with get_adapter().get_requests_session() as session:
            answer = session.get(url)
            answer.raise_for_status()
            keys = answer.json()["keys"]
        for item in keys:
            if item.get("kid") == kid and item.get("kty") in {"RSA", "EC"}:
                return jwt.PyJWK.from_json(
                    json.dumps({"alg": "RS256" if item["kty"] == "RSA" else "ES256", **item})
                ).key
        raise jwt.InvalidKeyError("no such key")


def person_record(user: User, verb: str, request: HttpRequest, detail: dict[str, Any]) -> None:
    """An event about whoever signs in, in a transaction of its own or the caller's."""
    request_id = str(getattr(request, "request_id", ""))
    chain = (f"user:{user.pk} {user.get_username()}",)
    actor = Actor("user", str(user.pk), user.get_username(), request_id=request_id, chain=chain)
    with transaction.atomic():
        event_record(
            actor=actor,
            verb=verb,
            subject_kind="user",
            subject_id=str(user.pk),
            subject_label=user.get_username(),
            detail=detail,
        )
