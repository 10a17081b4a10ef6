"""Pages for what never reached a view or broke inside one: unknown address, wrong host, refused form, fault of ours.

Below /api/ the answer is made into a problem document by the middleware. These pages ask no database: the sign-in
state is not looked up, so they come out even while everything below is down.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import structlog
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string

from controlplane.context import theme_of

log = structlog.get_logger(__name__)
SAFE = "Traffic stays as it was, and rollouts go on without this page."
BARE = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>Pilothouse</title><h1>Something here is broken</h1>'
    f"<p>Not your request. {SAFE}</p><p>Request {{}}.</p></html>"
)


@dataclass(frozen=True, slots=True)
class Fault:
    """What a page of this kind says; ``way`` is the one thing to do next (word, address)."""

    status: int
    title: str
    detail: str
    way: tuple[str, str] = ("Go to the fleet", "/")


def unknown_address(request: HttpRequest, exception: Exception) -> HttpResponse:
    """404 of an address that no route knows; what a view did not find says so itself."""
    detail = "Pilothouse has no page at this address. It may have been typed by hand, or the link is old."
    return _page(request, Fault(404, "There is no such page", detail))


def malformed(request: HttpRequest, exception: Exception) -> HttpResponse:
    """400: nearly always the name by which the server was called."""
    detail = (
        "The request was not understood. If you came by another name or address of this server, it is not one of those "
        "it answers to; an operator adds it to PILOTHOUSE_ALLOWED_HOSTS."
    )
    return _page(request, Fault(400, "The request was refused", detail))


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _page(request, Fault(403, "Not allowed", "You may not do this. Whoever administers Pilothouse can say why."))


def broken(request: HttpRequest) -> HttpResponse:
    """500. Whatever broke may break the template too: then the answer is bare, but it is ours."""
    detail = "Something here is broken, not your request. The server's log has it under the request id below."
    fault = Fault(500, "Something here is broken", detail, ("Try again", ""))
    try:
        return _page(request, fault)
    except Exception:
        log.exception("fault_page_broken", request_id=_request_id(request))
        return HttpResponse(BARE.format(_request_id(request)), status=500)


def _page(request: HttpRequest, fault: Fault) -> HttpResponse:
    """Rendered without a request, so that no context processor asks for a session or a person."""
    context: dict[str, Any] = {
        "fault": fault,
        "safe": SAFE,
        "request_id": _request_id(request),
        "frame": {"theme": theme_of(request), "rooms": []},
        "request": {"csp_nonce": getattr(request, "csp_nonce", "")},
    }
    return HttpResponse(render_to_string("fault.html", context), status=fault.status)


def _request_id(request: HttpRequest) -> str:
    return str(getattr(request, "request_id", ""))
