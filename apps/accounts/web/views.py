"""Pages before one is somebody: sign-in, the first account, and the one-time link to choose a password."""

from __future__ import annotations

from allauth.account.internal.flows.login import perform_login, perform_password_login
from allauth.account.models import Login
from django.conf import settings
from django.contrib.auth import logout
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render, resolve_url
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters

from apps.accounts.domain.doors import PUBLIC
from apps.accounts.models import User
from apps.accounts.services.people import invite_accept, invite_find
from apps.accounts.services.setup import first_person_create, is_set_up, setup_token_is_valid
from apps.accounts.services.sign_in import sign_in_check
from apps.accounts.web.sign_in_hooks import person_record
from apps.accounts.web_access import declares
from apps.kernel.errors import DomainError, Forbidden, NotFound

SSO_FAILED = "The identity provider did not sign you in. Try again; if it stays so, ask an admin."


@declares({"GET": PUBLIC, "POST": PUBLIC})
@never_cache
@sensitive_post_parameters("password")
def sign_in(request: HttpRequest) -> HttpResponse:
    """A form; a wrong name and a wrong password get the same answer. A second factor is asked for afterwards."""
    onward = _onward(request)
    if request.user.is_authenticated:
        return redirect(onward)
    fault, username = SSO_FAILED if "sso" in request.GET else "", request.POST.get("username", "")
    if request.method == "POST":
        try:
            user = sign_in_check(
                request=request,
                username=username,
                password=request.POST.get("password", ""),
                request_id=getattr(request, "request_id", ""),
            )
        except Forbidden as error:
            fault = error.detail
        else:
            login = Login(user=user, redirect_url=onward)
            answer: HttpResponse = perform_password_login(request, {"username": user.get_username()}, login)
            return answer
    context = {
        "fault": fault,
        "username": username,
        "next": onward,
        "was_sent": "next" in request.GET and onward != resolve_url("fleet"),
        "idle_minutes": settings.PILOTHOUSE_SESSION_IDLE_SECONDS // 60,
        "is_set_up": is_set_up(),
        "sso_name": settings.PILOTHOUSE_OIDC_NAME,
    }
    return render(request, "accounts/sign_in.html", context, status=403 if fault else 200)


@declares({"POST": PUBLIC})
def sign_out(request: HttpRequest) -> HttpResponse:
    """Ends the session; a GET does nothing, so no link can sign anybody out."""
    if isinstance(request.user, User):
        person_record(request.user, "user.signed_out", request, {})
    logout(request)
    return redirect("accounts:sign_in")


@declares({"GET": PUBLIC, "POST": PUBLIC})
@never_cache
@sensitive_post_parameters("password", "again")
def setup(request: HttpRequest, token: str) -> HttpResponse:
    """The one-time link of a first run makes the first account and signs it in. Raises NotFound for a spent link."""
    if not setup_token_is_valid(token):
        raise NotFound(
            "setup_token_invalid",
            "This link is spent or too old. If there is an account already, sign in; "
            "else the next start of Pilothouse prints a fresh one.",
        )
    faults = _differ(request)
    username, password = request.POST.get("username", ""), request.POST.get("password", "")
    if request.method == "POST" and not faults:
        try:
            user = first_person_create(
                token=token, username=username, password=password, request_id=getattr(request, "request_id", "")
            )
        except NotFound:
            raise
        except DomainError as error:
            faults = {item.pointer.strip("/"): item.detail for item in error.fields} or {"username": error.detail}
        else:
            return _signed_in(request, user)
    context = {"faults": faults, "username": username, "token": token}
    return render(request, "accounts/setup.html", context, status=422 if faults else 200)


@declares({"GET": PUBLIC, "POST": PUBLIC})
@never_cache
@sensitive_post_parameters("password", "again")
def invite(request: HttpRequest, token: str) -> HttpResponse:
    """The one-time link of an invitation: choose a password, be signed in. Raises NotFound for a spent link."""
    row = invite_find(token)
    faults = _differ(request)
    if request.method == "POST" and not faults:
        try:
            user = invite_accept(
                token=token,
                password=request.POST.get("password", ""),
                request_id=getattr(request, "request_id", ""),
            )
        except NotFound:
            raise
        except DomainError as error:
            faults = {"password": error.detail}
        else:
            return _signed_in(request, user)
    context = {"faults": faults, "token": token, "username": row.user.get_username()}
    return render(request, "accounts/invite.html", context, status=422 if faults else 200)


def _signed_in(request: HttpRequest, user: User) -> HttpResponse:
    """As by any other way in: a second factor is still asked for."""
    with transaction.atomic():
        answer: HttpResponse = perform_login(request, Login(user=user, redirect_url=resolve_url("fleet")))
    return answer


def _differ(request: HttpRequest) -> dict[str, str]:
    if request.method == "POST" and request.POST.get("password", "") != request.POST.get("again", ""):
        return {"again": "The two passwords differ; type the same one twice."}
    return {}


def _onward(request: HttpRequest) -> str:
    """Where to go after signing in: a path of this site, never anywhere else."""
    wanted = request.POST.get("next") or request.GET.get("next", "")
    if url_has_allowed_host_and_scheme(wanted, allowed_hosts={request.get_host()}, require_https=request.is_secure()):
        return wanted
    return resolve_url("fleet")
