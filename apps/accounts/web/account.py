"""The page about oneself: roles and API keys."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache

from apps.accounts.domain.browsers import browser_words
from apps.accounts.domain.doors import SIGNED_IN
from apps.accounts.models import User
from apps.accounts.selectors import token_list
from apps.accounts.services.access import roles_of
from apps.accounts.services.sessions import session_end, sessions_end_others, sessions_of
from apps.accounts.services.setup import roles_to_split
from apps.accounts.services.tokens import token_revoke, token_rotate
from apps.accounts.web.key_forms import faults_of, form_of, key_make_from, key_rows
from apps.accounts.web.people import person_page
from apps.accounts.web_access import actor_of_request, declares, step_up
from apps.kernel.errors import Conflict, DomainError


@declares(SIGNED_IN)
@never_cache
def account(request: HttpRequest) -> HttpResponse:
    """Roles and keys of whoever asks."""
    return _page(request)


@declares({"POST": SIGNED_IN})
@never_cache
@step_up
def key_make(request: HttpRequest) -> HttpResponse:
    """Makes a key and shows its text, this once: it is in the answer to this POST and nowhere else."""
    user = user_of(request)
    try:
        text = key_make_from(request.POST, actor=actor_of_request(request), user=user)
    except DomainError as error:
        return _page(request, faults=faults_of(error), status=422)
    return _page(request, shown=text)


@declares({"POST": SIGNED_IN})
def key_revoke(request: HttpRequest, token_id: str) -> HttpResponse:
    """Switches a key off, for good: one's own, or one of a service account."""
    token = token_revoke(actor=actor_of_request(request), token_id=token_id)
    messages.success(request, f"The key {token.label} opens nothing any more.")
    return _back_to(request, token.user)


@declares({"POST": SIGNED_IN})
@never_cache
@step_up
def key_rotate(request: HttpRequest, token_id: str) -> HttpResponse:
    """Replaces a key and shows the new one, this once; the old one works for another day."""
    try:
        token, text = token_rotate(actor=actor_of_request(request), token_id=token_id)
    except Conflict as error:
        messages.error(request, error.detail)
        return redirect("accounts:account")
    if token.user_id != user_of(request).pk:
        return person_page(request, token.user, shown=text)
    return _page(request, shown=text)


@declares({"POST": SIGNED_IN})
def session_over(request: HttpRequest, session_id: int) -> HttpResponse:
    """Signs one other browser out."""
    session_end(actor=actor_of_request(request), user=user_of(request), session_id=session_id)
    messages.success(request, "That session is over.")
    return redirect("accounts:account")


@declares({"POST": SIGNED_IN})
def sessions_over(request: HttpRequest) -> HttpResponse:
    """Signs every other browser out."""
    user, key = user_of(request), request.session.session_key
    count = sessions_end_others(actor=actor_of_request(request), user=user, session_key=key)
    messages.success(request, "One other session is over." if count == 1 else f"{count} other sessions are over.")
    return redirect("accounts:account")


def _back_to(request: HttpRequest, owner: User) -> HttpResponse:
    if owner.pk == user_of(request).pk:
        return redirect("accounts:account")
    return redirect("accounts:person", owner.pk)


def _page(
    request: HttpRequest, *, faults: dict[str, str] | None = None, shown: str = "", status: int = 200
) -> HttpResponse:
    user = user_of(request)
    context = {
        "form": form_of(roles_of(user), request.POST, faults or {}),
        "keys": key_rows(token_list(user)),
        "held": user.memberships.select_related("team").order_by("team__slug", "environment", "role"),
        "shown": shown,
        "sessions": [(one, browser_words(one.user_agent)) for one in sessions_of(user)],
        "session_key": request.session.session_key,
        "to_split": roles_to_split(user),
    }
    return render(request, "accounts/account.html", context, status=status)


def user_of(request: HttpRequest) -> User:
    """The signed-in person; the door let nobody else through."""
    if not isinstance(request.user, User):
        raise TypeError("an anonymous request got past the door")
    return request.user
