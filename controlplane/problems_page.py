"""The page that the ``type`` of every problem document leads to: what happened, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import HttpResponse
from django.templatetags.static import static
from django.utils.html import format_html, format_html_join

from apps.accounts.domain.doors import PUBLIC
from apps.accounts.web_access import declares


@dataclass(frozen=True, slots=True)
class Section:
    """One anchor; ``kinds`` and ``statuses`` as they stand in the documents that lead here."""

    anchor: str
    title: str
    statuses: str
    kind: str
    meaning: str
    way_out: str


SECTIONS = (
    Section(
        "malformed",
        "Malformed request",
        "400, 405, 406, 413, 415",
        "invalid",
        "The request could not be read: no JSON, a member named twice, too large a body, another media type, a method "
        "that the address does not take, or a host name that is not this server's.",
        "Repeating does not help. Send application/json of at most 1 MiB; detail says what could not be read.",
    ),
    Section(
        "sign-in",
        "Sign in first",
        "401",
        "forbidden",
        "No key came along, or one that is unknown, expired or revoked.",
        "Send Authorization: Bearer plh_… with a valid key. A person makes one on the page Account.",
    ),
    Section(
        "forbidden",
        "Not allowed",
        "403",
        "forbidden",
        "The caller is known and lacks the role. action names what was asked for, roles who can.",
        "Have an admin give the role, or ask somebody who has it. A key has at most the roles of its maker.",
    ),
    Section(
        "not-found",
        "Not found",
        "404",
        "not_found",
        "There is no such thing, or the caller may not see it; the two look the same.",
        "Check the name or id, and the address.",
    ),
    Section(
        "conflict",
        "The state has moved on",
        "409",
        "conflict",
        "What was asked for does not fit where things are now: somebody else was faster, the phase does not allow it, "
        "a name is taken, or the first call with this Idempotency-Key still runs (idempotency_in_flight).",
        "Look at revision, step, phase and allowed_actions in the answer, decide again, and send what you saw. Where "
        "retryable is true, repeat the same call after Retry-After.",
    ),
    Section(
        "precondition",
        "Precondition failed or missing",
        "412, 428",
        "conflict or invalid",
        "A change has to say which revision it saw (428), or that revision has been left behind (412).",
        "Read the thing again and send its ETag as If-Match; * says that any revision will do.",
    ),
    Section(
        "invalid",
        "A field is wrong",
        "422",
        "invalid",
        "A field of the body or a query parameter can never be accepted as it is. errors lists each: pointer is a JSON "
        "pointer (RFC 6901) into the body (empty: the whole body), or ?name for a query parameter.",
        "Repeating does not help; correct the fields.",
    ),
    Section(
        "refused",
        "A rule says no",
        "422",
        "refused",
        "The request is well formed, and a rule of the house forbids it now: the version would break callers, its "
        "artifact is gone or changed, a guardrail fails.",
        "detail names the rule and the way out. Correcting a field alone does not help.",
    ),
    Section(
        "too-many",
        "Too many requests",
        "429",
        "unavailable",
        "This caller has used up its share for now.",
        "Repeat after Retry-After.",
    ),
    Section(
        "fault",
        "A fault of the server",
        "500",
        "unavailable",
        "Something is broken here, and it is not the request. The answer tells no more, on purpose.",
        "Give the request id (instance) to an operator; the log of the server has the cause under it. With an "
        "Idempotency-Key the call can be repeated without doing anything twice.",
    ),
    Section(
        "unavailable",
        "Something below is unavailable",
        "503",
        "unavailable",
        "The database, or a target, could not be reached in time.",
        "Where retryable is true, repeat after Retry-After; with an Idempotency-Key nothing is done twice.",
    ),
)
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Problems - API of Pilothouse</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="{}"></head><body><main>
<h1>Problems</h1>
<p>Every error of the API is a problem document (RFC 9457, application/problem+json). code is stable and for programs,
detail is for people, instance is the request id. The whole API: <a href="/api/v1/docs">/api/v1/docs</a>.</p>
{}</main></body></html>
"""
_SECTION = """<section id="{}"><h2>{}</h2><p>Status {}, kind {}.</p><p>{}</p><p><b>What to do.</b> {}</p></section>
"""


@declares(PUBLIC)
def problems_page(request: Any) -> HttpResponse:
    """One section per type."""
    rows = ((one.anchor, one.title, one.statuses, one.kind, one.meaning, one.way_out) for one in SECTIONS)
    return HttpResponse(format_html(_PAGE, static("favicon.svg"), format_html_join("", _SECTION, rows)))
