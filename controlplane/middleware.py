"""Request id, security headers, errors below /api/ as problem documents, and domain errors as pages."""

from __future__ import annotations

import re
import secrets
import uuid
from collections.abc import Callable
from typing import Any

import structlog
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from apps.kernel.errors import DomainError
from apps.kernel.rest.json_body import MAX_BODY_BYTES, BodyTooLarge
from controlplane.problems import problem, problem_of, problem_response

log = structlog.get_logger(__name__)
API = "/api/"
V1 = "/api/v1/"

_REQUEST_ID = re.compile(r"^[A-Za-z0-9._-]{8,128}$")
Handler = Callable[[HttpRequest], HttpResponse]


class RequestIdMiddleware:
    """Takes a sane ``X-Request-ID`` or makes one; answers with it, and binds it to logs and to the outbox."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.headers.get("X-Request-ID", "")
        request.request_id = given if _REQUEST_ID.match(given) else uuid.uuid4().hex  # type: ignore[attr-defined]
        with structlog.contextvars.bound_contextvars(request_id=request.request_id):  # type: ignore[attr-defined]
            response = self.get_response(request)
        response["X-Request-ID"] = request.request_id  # type: ignore[attr-defined]
        return response


class ApiProblemMiddleware:
    """Whatever goes wrong below /api/ is told as a problem document without internals, also where no view was reached.

    What REST framework's views raise is one already (controlplane/problems.py). This is for the rest, which Django
    would answer with a page: unforeseen exceptions, addresses outside v1, a wrong host, an oversized body.
    """

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not request.path.startswith(API):
            return self.get_response(request)
        refused = _refused(request)
        if refused is not None:
            return problem_response(refused)
        try:
            response = self.get_response(request)
        except Exception:
            # Only when Django's own error page failed; nothing may leave as the server's bare text.
            log.exception("unhandled_error", path=request.path, request_id=_request_id(request))
            return problem_response(_plain(500, request))
        # Below /api/2.0/mlflow errors are JSON of MLflow's own form; a page is nobody's.
        if response.status_code < 400 or "json" in response.get("Content-Type", ""):
            return response
        told = problem_response(_plain(response.status_code, request))
        for name in ("Allow", "Retry-After", "WWW-Authenticate"):
            if name in response:
                told[name] = response[name]
        response.close()
        return told


def _refused(request: HttpRequest) -> dict[str, Any] | None:
    try:
        request.get_host()
    except DisallowedHost:
        detail = "The host of this request is none of this server's names; an operator adds it to"
        return problem(400, "bad_host", f"{detail} PILOTHOUSE_ALLOWED_HOSTS.", request_id=_request_id(request))
    if request.path.startswith(V1) and request.headers.get("Transfer-Encoding", "").lower() == "chunked":
        _measure(request)
    length = request.META.get("CONTENT_LENGTH") or ""
    if request.path.startswith(V1) and length.isdecimal() and int(length) > MAX_BODY_BYTES:
        return problem(413, BodyTooLarge.default_code, BodyTooLarge.default_detail, request_id=_request_id(request))
    return None


def _measure(request: HttpRequest) -> None:
    """REST framework takes a body without Content-Length for none at all, and would act on half of what was said."""
    body = request.read(MAX_BODY_BYTES + 1)
    request._body = body
    request.META["CONTENT_LENGTH"] = str(len(body))


_PLAIN = {
    400: ("malformed", "The request cannot be understood."),
    403: ("forbidden", "You may not do this."),
    404: ("not_found", "There is nothing here; the API is at /api/v1, its description at /api/v1/openapi.json."),
    405: ("method_not_allowed", "This address does not take this method."),
    500: (
        "internal",
        "A fault of the server, not of your request. Its log has more under this request id.",
    ),
    503: ("unavailable", "Something below is unavailable; repeat in a moment."),
}


def _plain(status: int, request: HttpRequest) -> dict[str, Any]:
    code, detail = _PLAIN.get(status, _PLAIN[500 if status >= 500 else 400])
    return problem(status, code, detail, request_id=_request_id(request), retryable=status == 503)


def _request_id(request: HttpRequest) -> str:
    return str(getattr(request, "request_id", ""))


class ContentSecurityPolicyMiddleware:
    """``script-src 'self'``; styles by nonce, because Plotly injects one style element (base.html gives it the nonce).

    ``style-src-attr 'unsafe-inline'`` stays: Plotly sets style attributes on its SVG; without them an unstyled
    chart covers the buttons below it.
    """

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        nonce = secrets.token_urlsafe(16)
        request.csp_nonce = nonce  # type: ignore[attr-defined]
        response = self.get_response(request)
        response.setdefault(
            "Content-Security-Policy",
            "default-src 'none'; script-src 'self'; "
            f"style-src-elem 'self' 'nonce-{nonce}'; style-src-attr 'unsafe-inline'; "
            "img-src 'self' data: blob:; font-src 'self'; connect-src 'self'; form-action 'self'; "
            "base-uri 'none'; frame-ancestors 'none'; manifest-src 'self'",
        )
        return response


class DomainErrorMiddleware:
    """A DomainError that leaves a page's view becomes a page, or a fragment, that says what is wrong."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if not isinstance(exception, DomainError):
            return None
        problem = problem_of(exception, request_id=getattr(request, "request_id", ""))
        template = "_problem.html" if request.headers.get("HX-Request") else "problem.html"
        return render(request, template, {"problem": problem}, status=problem["status"])
