"""Doors of pages: ``@declares("fleet.read")`` on every view, and the walk that finds a view without one.

    @declares("rollout.read")                                  one action
    @declares({"GET": "rollout.read", "POST": "rollout.plan"}) by method (HEAD is GET)
    @declares(PUBLIC)  @declares(SIGNED_IN)                    see domain/doors.py

The view finds ``request.actor`` set. Anonymous people are sent to sign-in and come back; whoever lacks the right gets
Forbidden, which ``DomainErrorMiddleware`` renders. Put it on the outside: ``path(…, declares("x")(View.as_view()))``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from typing import Any, Protocol, cast
from urllib.parse import urlencode, urlsplit

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseNotAllowed, HttpResponseRedirect
from django.shortcuts import resolve_url
from django.urls import URLPattern, URLResolver
from django_htmx.http import HttpResponseClientRedirect

from apps.accounts.domain.doors import DECLARABLE, PUBLIC, SIGNED_IN
from apps.accounts.domain.roles import look_only, who_can
from apps.accounts.services.access import access_allows, access_require, actor_of
from apps.accounts.services.step_up import CONFIRM_URL, step_up_is_fresh
from apps.kernel.actor import Actor
from apps.kernel.clock import now

KEPT = "form_kept"
KEPT_SECONDS = 600
KEPT_FIELDS, KEPT_LENGTH = 200, 64_000
_SECRET = re.compile(r"passw|secret|token|credential|identity|otp|authorization|private|api_?key", re.IGNORECASE)
_SECRET_TEXT = re.compile(r"\s*(plh_|eyJ[\w-]+\.|-----BEGIN )")
View = Callable[..., HttpResponseBase]
Declared = str | Mapping[str, str]


def declares(required: Declared) -> Callable[[View], View]:
    """Guard a page's view. Raises ValueError at import for an action that no table knows."""
    unknown = set([required] if isinstance(required, str) else required.values()) - DECLARABLE
    if unknown:
        raise ValueError(f"undeclared action: {', '.join(sorted(unknown))}")

    def guard(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            needed = _needed(required, request.method or "")
            if needed is None:
                return HttpResponseNotAllowed(sorted(required))
            request.actor = _actor(request)  # type: ignore[attr-defined]
            if needed != PUBLIC and not request.user.is_authenticated:
                return _to_sign_in(request)
            if needed not in {PUBLIC, SIGNED_IN}:
                access_require(request.actor, needed)  # type: ignore[attr-defined]
            return view(request, *args, **kwargs)

        guarded.action_required = required  # type: ignore[attr-defined]
        return guarded

    return guard


def _actor(request: HttpRequest) -> Actor:
    """Who asks. A part of a page is rendered with a copy of the page's request, which knows it already."""
    known = vars(request).get("actor")
    if isinstance(known, Actor) and known.kind == "user" and known.id == str(request.user.pk):
        return known
    return actor_of(request.user, getattr(request, "request_id", ""))


def actor_of_request(request: HttpRequest) -> Actor:
    """The actor that ``@declares`` has put on the request."""
    return cast(Actor, vars(request)["actor"])


def allows(request: HttpRequest, action: str) -> bool:
    return access_allows(actor_of_request(request), action)


def why_not(request: HttpRequest, action: str) -> str:
    """Who can do ``action``, for a button that this person may not press; empty when they may."""
    if allows(request, action):
        return ""
    return look_only(who_can(action))


class OfTeam(Protocol):
    """What belongs to a team: a model."""

    team_id: str

    @property
    def team(self) -> Any: ...


def why_not_of(request: HttpRequest, action: str, owned: OfTeam) -> str:
    """The same where the right is asked in the thing's team; reads ``owned.team`` for those who may not."""
    if access_allows(actor_of_request(request), action, owned.team_id):
        return ""
    return look_only(who_can(action), f" in the team {owned.team.slug}")


def step_up(view: View) -> View:
    """For what is dangerous: a signed-in person whose last proof is old confirms first, and comes back.

    Inside ``@declares``. A fragment is told to take the whole page there. What was filled in into a form is kept in the
    session meanwhile and sent by one more click of the person (``form_keep``); nothing of it is done before.
    """

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if step_up_is_fresh(request):
            if request.method == "POST":
                request.session.pop(KEPT, None)  # sent now, or overtaken by another one
            return view(request, *args, **kwargs)
        page = urlsplit(request.headers.get("HX-Current-URL", request.headers.get("Referer", "")))
        back = request.get_full_path() if request.method == "GET" else page.path or resolve_url("fleet")
        is_fragment = request.headers.get("HX-Request") == "true"
        if request.method == "POST" and not is_fragment and form_keep(request, back):
            back = resolve_url("accounts:go_on")
        address = f"{CONFIRM_URL}?{urlencode({'next': back})}"
        if is_fragment:
            answer: HttpResponse = HttpResponseClientRedirect(address)
            return answer
        return HttpResponseRedirect(address)

    return guarded


def form_keep(request: HttpRequest, back: str) -> bool:
    """Keep a form that was sent too late for its proof, in the session and for a few minutes; False for one with files
    or of an unusual size. ``back`` is the page it stands on.

    It came through the check of its CSRF token, and is sent again with a new one. A session lies in the database, so
    secrets are left out: by their names, and whatever looks like a key in another field.
    """
    rows = [(name, value) for name, values in request.POST.lists() for value in map(str, values)]
    if request.FILES or len(rows) > KEPT_FIELDS or sum(len(name) + len(value) for name, value in rows) > KEPT_LENGTH:
        request.session.pop(KEPT, None)
        return False
    rows = [row for row in rows if row[0] != "csrfmiddlewaretoken"]
    secret = {name for name, value in rows if _SECRET.search(name) or _SECRET_TEXT.match(value)}
    request.session[KEPT] = {
        "path": request.path,
        "back": back,
        "fields": [list(row) for row in rows if row[0] not in secret],
        "left_out": sorted(secret),
        "user": str(request.user.pk),
        "at": now().timestamp(),
    }
    return True


def form_kept(request: HttpRequest) -> dict[str, Any] | None:
    """The form that waits in this session for this person, None for none or one that is too old."""
    kept = request.session.get(KEPT)
    if not isinstance(kept, dict):
        return None
    if kept["user"] != str(request.user.pk) or now().timestamp() - kept["at"] > KEPT_SECONDS:
        del request.session[KEPT]
        return None
    return kept


def undeclared_doors(patterns: list[URLPattern | URLResolver]) -> list[str]:
    """The routes below ``patterns`` whose view declares nothing, as text; a healthy product has none."""
    return [route for route, view in _doors(patterns, "/") if not _is_declared(view)]


def _needed(required: Declared, method: str) -> str | None:
    if isinstance(required, str):
        return required
    return required.get("GET" if method == "HEAD" else method)


def _to_sign_in(request: HttpRequest) -> HttpResponseBase:
    """Back to where the person was: for a fragment that is the page around it, for a POST nowhere in particular."""
    address = resolve_url(settings.LOGIN_URL)
    if request.headers.get("HX-Request") == "true":
        page = urlsplit(request.headers.get("HX-Current-URL", ""))
        back = page.path + (f"?{page.query}" if page.query else "")
        answer: HttpResponse = HttpResponseClientRedirect(redirect_to_login(back, address).url if back else address)
        return answer
    if request.method != "GET":
        return HttpResponseRedirect(address)
    return redirect_to_login(request.get_full_path(), address)


def _doors(patterns: list[URLPattern | URLResolver], prefix: str) -> Iterator[tuple[str, Any]]:
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _doors(pattern.url_patterns, route)
        else:
            yield route, pattern.callback


def _is_declared(view: Any) -> bool:
    # Function views carry the mark; REST framework's views carry their class as ``cls``, Django's as ``view_class``.
    owner = getattr(view, "cls", None)
    return getattr(view, "action_required", None) is not None or getattr(owner, "action_required", None) is not None
