"""allauth's own pages in our words and under our doors. The names are the ones that it looks up."""

from __future__ import annotations

from typing import Any

from allauth.account import views as account
from allauth.mfa.base import views as mfa
from allauth.mfa.recovery_codes import views as codes
from allauth.mfa.totp import views as totp
from allauth.mfa.webauthn import views as webauthn
from allauth.socialaccount.models import SocialApp
from allauth.socialaccount.providers.oauth2.views import OAuth2CallbackView
from allauth.socialaccount.providers.openid_connect import views as oidc
from django.http import Http404, HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse_lazy

from apps.accounts.domain.doors import PUBLIC, SIGNED_IN
from apps.accounts.web.sign_in_hooks import VerifyingOidcAdapter
from apps.accounts.web.views import sign_in, sign_out
from apps.accounts.web_access import declares

FORM = "accounts/factors/form.html"


@declares({"GET": PUBLIC, "POST": PUBLIC})
def sso_callback(request: HttpRequest, provider_id: str) -> HttpResponseBase:
    """The stock flow with a verified ID token."""
    try:
        view: Any = OAuth2CallbackView.adapter_view(VerifyingOidcAdapter(request, provider_id))
        answer: HttpResponseBase = view(request)
    except SocialApp.DoesNotExist as error:
        raise Http404 from error
    return answer


@declares({"GET": PUBLIC})
def to_sign_in(request: HttpRequest) -> HttpResponseBase:
    """Where allauth would show a page of its own about a sign-in that did not happen."""
    return redirect("account_login")


def _page(view: Any, template: str, title: str, needs: str = SIGNED_IN, *, about: str = "", **more: Any) -> Any:
    """``about``: what pressing the button means, where the fields do not say it."""
    context = {"title": title, "about": about}
    return declares(needs)(view.as_view(template_name=template, extra_context=context, **more))


def _confirm(view: Any, template: str, title: str) -> Any:
    return _page(view, template, title, about="What comes next may do harm in other hands, so it asks once more.")


urlpatterns: list[URLPattern] = [
    path("sign-in", sign_in, name="account_login"),
    path("sign-out", sign_out, name="account_logout"),
    path("sign-in/inactive", to_sign_in, name="account_inactive"),
    path("sign-in/cancelled", to_sign_in, name="socialaccount_login_cancelled"),
    path("sign-in/failed", to_sign_in, name="socialaccount_login_error"),
    path("sign-in/new", to_sign_in, name="socialaccount_signup"),
    path(
        "sign-in/code",
        _page(mfa.AuthenticateView, "accounts/factors/authenticate.html", "Second factor", PUBLIC),
        name="mfa_authenticate",
    ),
    path("sign-in/passkey", declares(PUBLIC)(webauthn.login_webauthn), name="mfa_login_webauthn"),
    path("sso/<slug:provider_id>/login", declares(PUBLIC)(oidc.login), name="openid_connect_login"),
    path("sso/<slug:provider_id>/callback", sso_callback, name="openid_connect_callback"),
    path(
        "account/confirm/",
        _confirm(account.ReauthenticateView, FORM, "Confirm that it is you"),
        name="account_reauthenticate",
    ),
    path("account/confirm/code", _confirm(mfa.ReauthenticateView, FORM, "Confirm by code"), name="mfa_reauthenticate"),
    path(
        "account/confirm/security-key",
        _confirm(webauthn.ReauthenticateWebAuthnView, "accounts/factors/webauthn.html", "Confirm by security key"),
        name="mfa_reauthenticate_webauthn",
    ),
    path(
        "account/password",
        _page(
            account.PasswordChangeView,
            FORM,
            "Change the password",
            success_url=reverse_lazy("accounts:account"),
            about="At least ten characters; a sentence is easy to remember. Every other browser is signed out.",
        ),
        name="account_change_password",
    ),
    path("account/password/set", to_sign_in, name="account_set_password"),
    path(
        "account/two-factor/",
        _page(mfa.IndexView, "accounts/factors/index.html", "Second factors"),
        name="mfa_index",
    ),
    path(
        "account/two-factor/app",
        _page(totp.ActivateTOTPView, "accounts/factors/totp.html", "Add an authenticator app"),
        name="mfa_activate_totp",
    ),
    path(
        "account/two-factor/app/remove",
        _page(
            totp.DeactivateTOTPView,
            FORM,
            "Remove the authenticator app",
            about="Sign-in asks for no code any more, unless a security key is left. Recovery codes of the last factor"
            " go with it.",
        ),
        name="mfa_deactivate_totp",
    ),
    path(
        "account/two-factor/codes",
        _page(codes.ViewRecoveryCodesView, "accounts/factors/codes.html", "Recovery codes"),
        name="mfa_view_recovery_codes",
    ),
    path(
        "account/two-factor/codes/new",
        _page(
            codes.GenerateRecoveryCodesView,
            FORM,
            "Make new recovery codes",
            about="You get ten new codes. Those you have stop working at once, also the ones on paper.",
        ),
        name="mfa_generate_recovery_codes",
    ),
    path(
        "account/two-factor/keys",
        _page(webauthn.ListWebAuthnView, "accounts/factors/keys.html", "Security keys"),
        name="mfa_list_webauthn",
    ),
    path(
        "account/two-factor/keys/new",
        _page(webauthn.AddWebAuthnView, "accounts/factors/webauthn.html", "Add a security key"),
        name="mfa_add_webauthn",
    ),
    path(
        "account/two-factor/keys/<int:pk>/remove",
        _page(
            webauthn.RemoveWebAuthnView,
            FORM,
            "Remove a security key",
            about="It opens nothing here any more. It can be added again.",
        ),
        name="mfa_remove_webauthn",
    ),
]
