"""How much one caller may ask for, and how long a session lives."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.contrib.auth import logout
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from apps.kernel.clock import now
from apps.kernel.rate_limit import Taken, address_bucket, credential_bucket, rate_limit_take
from controlplane.problems import CONTENT_TYPE, problem

Handler = Callable[[HttpRequest], HttpResponse]
FREE = ("/static/", "/livez", "/readyz", "/metrics", "/favicon.ico")
AUTH = ("/sign-in", "/setup/", "/invite/", "/account/two-factor/", "/account/confirm/", "/sso/", "/api/v1/auth/")
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
SEEN_RESOLUTION_SECONDS = 60


class RateLimitMiddleware:
    """One bucket per principal and class. A principal is what was presented (key, token, session), as a hash, else the
    address; a refused credential is charged to its address, so that made-up keys do not come with buckets of their own.
    """

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path.startswith(FREE):
            return self.get_response(request)
        name = limit_class(request.method or "", request.path)
        taken = rate_limit_take(name, address_of(request) if name == "auth" else principal_of(request))
        if not taken.is_allowed:
            return refused(request, taken)
        response = self.get_response(request)
        if response.status_code == 401 and name != "auth" and "Authorization" in request.headers:
            guess = rate_limit_take("auth", address_of(request))
            if not guess.is_allowed:
                return refused(request, guess)
        for header, value in taken.headers().items():
            response.setdefault(header, value)
        return response


def limit_class(method: str, path: str) -> str:
    """``auth`` for what takes a secret, ``ingest``, else ``read`` or ``write``."""
    if path.startswith(AUTH) and method not in SAFE:
        return "auth"
    if path.startswith(("/api/v1/ingest/", "/ingest/")):
        return "ingest"
    return "read" if method in SAFE else "write"


def principal_of(request: HttpRequest) -> str:
    """Whose bucket: of the credential, else of the address."""
    credential = request.headers.get("Authorization") or request.COOKIES.get(settings.SESSION_COOKIE_NAME)
    if credential:
        return credential_bucket(credential.encode("utf-8", "surrogateescape"))
    return address_of(request)


def address_of(request: HttpRequest) -> str:
    """The bucket of the client's address."""
    return address_bucket(request.META.get("REMOTE_ADDR", ""))


def refused(request: HttpRequest, taken: Taken) -> HttpResponse:
    """429, or 503 where nobody could count; problem details for programs, a page for people."""
    seconds = taken.retry_after_seconds
    status, code = taken.refusal
    detail = f"Too many requests ({taken.policy.name}); try again in {seconds} s."
    if not taken.is_counted:
        detail = "Sign-ins cannot be counted right now, so none is accepted; try again in a moment."
    document = problem(status, code, detail, request_id=getattr(request, "request_id", ""), retryable=True)
    if request.path.startswith("/api/"):
        response: HttpResponse = JsonResponse(document, status=status, content_type=CONTENT_TYPE)
    else:
        response = render(request, "problem.html", {"problem": document}, status=status)
    for header, value in taken.headers().items():
        response[header] = value
    return response


class SessionLifeMiddleware:
    """Ends a session after a while without its person (settings), and 12 hours after sign-in whatever happens.

    A fragment that a page refetches by itself is not its person: only navigations and unsafe methods count as activity.
    """

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if settings.SESSION_COOKIE_NAME in request.COOKIES and request.user.is_authenticated:
            self._age(request)
        return self.get_response(request)

    def _age(self, request: HttpRequest) -> None:
        session, moment = request.session, now().timestamp()
        started = session.get("signed_in_at")
        if started is None:
            session["signed_in_at"] = session["seen_at"] = moment
            return
        seen = session.get("seen_at", started)
        is_over = moment - started >= settings.SESSION_COOKIE_AGE
        if is_over or moment - seen >= settings.PILOTHOUSE_SESSION_IDLE_SECONDS:
            logout(request)
            return
        is_activity = request.method not in SAFE or request.headers.get("HX-Request") != "true"
        if is_activity and moment - seen >= SEEN_RESOLUTION_SECONDS:
            session["seen_at"] = moment
