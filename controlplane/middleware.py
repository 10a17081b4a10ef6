"""Request id, security headers, and domain errors as pages."""

from __future__ import annotations

import re
import secrets
import uuid
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from apps.kernel.errors import DomainError
from controlplane.problems import problem_of

_REQUEST_ID = re.compile(r"^[A-Za-z0-9._-]{8,128}$")
Handler = Callable[[HttpRequest], HttpResponse]


class RequestIdMiddleware:
    """Takes a sane ``X-Request-ID`` or makes one; answers with it."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.headers.get("X-Request-ID", "")
        request.request_id = given if _REQUEST_ID.match(given) else uuid.uuid4().hex  # type: ignore[attr-defined]
        response = self.get_response(request)
        response["X-Request-ID"] = request.request_id  # type: ignore[attr-defined]
        return response


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
