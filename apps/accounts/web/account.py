"""The page about oneself: roles and API keys."""

from __future__ import annotations

from datetime import timedelta

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache

from apps.accounts.domain.doors import SIGNED_IN
from apps.accounts.domain.roles import ACTIONS, Role
from apps.accounts.models import User
from apps.accounts.selectors import token_list
from apps.accounts.services.access import roles_of
from apps.accounts.services.tokens import token_make, token_revoke
from apps.accounts.web_access import declares
from apps.kernel.clock import now
from apps.kernel.errors import DomainError, InvalidInput

ROLE_WORDS = {
    Role.VIEWER: "look at everything",
    Role.OPERATOR: "look; pause, abort and roll back",
    Role.ENGINEER: "register versions; plan, start and steer rollouts; change endpoints",
    Role.APPROVER: "look; pause, abort and roll back; approve",
    Role.AUDITOR: "look; read the audit trail",
    Role.ADMIN: "connect targets, change endpoints, give roles, set freeze windows, read the audit trail",
}
LIFETIMES = {"7": "a week", "30": "30 days", "90": "90 days"}


@declares(SIGNED_IN)
@never_cache
def account(request: HttpRequest) -> HttpResponse:
    """Roles and keys of whoever asks."""
    return _page(request)


@declares({"POST": SIGNED_IN})
@never_cache
def key_make(request: HttpRequest) -> HttpResponse:
    """Makes a key and shows its text, this once: it is in the answer to this POST and nowhere else."""
    user = _user(request)
    wanted = {name for name in request.POST.getlist("roles") if name in set(Role)}
    try:
        days = request.POST.get("days", "")
        if days not in LIFETIMES:
            raise InvalidInput.at("/days", "unknown", f"Choose {', '.join(LIFETIMES.values())}.")
        _, text = token_make(
            actor=request.actor,  # type: ignore[attr-defined]
            user=user,
            label=request.POST.get("label", ""),
            roles=frozenset(Role(name) for name in wanted),
            expires_at=now() + timedelta(days=int(days)),
        )
    except DomainError as error:
        faults = {item.pointer.strip("/"): item.detail for item in error.fields} or {"roles": error.detail}
        return _page(request, faults=faults, status=422)
    return _page(request, shown=text)


@declares({"POST": SIGNED_IN})
def key_revoke(request: HttpRequest, token_id: str) -> HttpResponse:
    """Switches a key off, for good."""
    token = token_revoke(actor=request.actor, token_id=token_id)  # type: ignore[attr-defined]
    messages.success(request, f"The key {token.label} opens nothing any more.")
    return redirect("accounts:account")


def _page(
    request: HttpRequest, *, faults: dict[str, str] | None = None, shown: str = "", status: int = 200
) -> HttpResponse:
    user, moment = _user(request), now()
    roles = sorted(roles_of(user))
    keys = [
        {"token": token, **_state(token.revoked_at is not None, bool(token.expires_at and token.expires_at <= moment))}
        for token in token_list(user)
    ]
    context = {
        "roles": [(role.value, ROLE_WORDS[role], sorted(ACTIONS[role])) for role in roles],
        "chosen": request.POST.getlist("roles") if faults else [Role.ENGINEER.value],
        "days": request.POST.get("days", "") if faults else "30",
        "keys": keys,
        "lifetimes": LIFETIMES.items(),
        "faults": faults or {},
        "shown": shown,
        "label": request.POST.get("label", "") if faults else "",
    }
    return render(request, "accounts/account.html", context, status=status)


def _state(is_revoked: bool, is_expired: bool) -> dict[str, str]:
    if is_revoked:
        return {"level": "unknown", "word": "revoked"}
    return {"level": "attention", "word": "expired"} if is_expired else {"level": "ok", "word": "works"}


def _user(request: HttpRequest) -> User:
    """The signed-in person; the door let nobody else through."""
    if not isinstance(request.user, User):
        raise TypeError("an anonymous request got past the door")
    return request.user
