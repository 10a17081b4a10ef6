"""The only module that knows what HTTP makes of an error: problem details, RFC 9457."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog
from django.conf import settings
from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.db.utils import InterfaceError, OperationalError
from django.http import Http404, HttpResponse
from rest_framework import exceptions
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.views import set_rollback

from apps.kernel.errors import DomainError, ErrorKind, FieldError
from apps.kernel.rest.faults import faults_of
from apps.kernel.rest.json_body import BodyTooLarge

log = structlog.get_logger(__name__)

CONTENT_TYPE = "application/problem+json"
PAGE = "/api/v1/problems"
RETRY_AFTER_SECONDS = 2
STATUS: dict[ErrorKind, int] = {
    ErrorKind.INVALID: 422,
    ErrorKind.REFUSED: 422,
    ErrorKind.CONFLICT: 409,
    ErrorKind.NOT_FOUND: 404,
    ErrorKind.FORBIDDEN: 403,
    ErrorKind.UNAVAILABLE: 503,
}
TITLES = {
    400: "Malformed request",
    401: "Sign in first",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    406: "Not acceptable",
    409: "The state has moved on",
    412: "Precondition failed",
    413: "Too large",
    415: "Unsupported media type",
    422: "The request cannot be carried out",
    428: "Precondition required",
    429: "Too many requests",
    500: "A fault of the server",
    503: "Something below is unavailable",
}
_KINDS = {
    401: ErrorKind.FORBIDDEN,
    403: ErrorKind.FORBIDDEN,
    404: ErrorKind.NOT_FOUND,
    409: ErrorKind.CONFLICT,
    412: ErrorKind.CONFLICT,
    429: ErrorKind.UNAVAILABLE,
    500: ErrorKind.UNAVAILABLE,
    503: ErrorKind.UNAVAILABLE,
}
_SECTIONS = {
    400: "malformed", 401: "sign-in", 405: "malformed", 406: "malformed", 412: "precondition", 413: "malformed",
    415: "malformed", 428: "precondition", 429: "too-many", 500: "fault", 503: "unavailable",
}  # fmt: skip


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    request_id: str = "",
    kind: ErrorKind | None = None,
    retryable: bool = False,
    errors: tuple[FieldError, ...] = (),
    **extra: Any,
) -> dict[str, Any]:
    """A problem document; ``extra`` members are added when they are not empty. ``type`` is a section of a page."""
    kind = kind or _KINDS.get(status, ErrorKind.INVALID)
    section = _SECTIONS.get(status, kind.value.replace("_", "-"))
    faults = [{"pointer": item.pointer, "code": item.code, "detail": item.detail} for item in errors]
    document: dict[str, Any] = {name: value for name, value in extra.items() if value not in (None, [], {})}
    return {
        "type": f"{settings.PILOTHOUSE_BASE_URL}{PAGE}#{section}",
        "title": TITLES.get(status, "Error"),
        "status": status,
        "detail": detail,
        "code": code,
        "kind": kind.value,
        "retryable": retryable,
        "instance": request_id,
        **({"errors": faults} if faults else {}),
        **document,
    }


def problem_of(error: DomainError, *, request_id: str = "") -> dict[str, Any]:
    """The problem document of a domain error."""
    extra = {name: value for name, value in error.extra.items() if name not in _OWN}
    return problem(
        STATUS[error.kind],
        error.code,
        error.detail,
        request_id=request_id,
        kind=error.kind,
        retryable=error.is_retryable,
        errors=error.fields,
        **extra,
    )


_OWN = frozenset({"type", "title", "status", "detail", "code", "kind", "retryable", "instance", "errors", "request_id"})


def problem_response(document: Mapping[str, Any]) -> HttpResponse:
    """``document`` as an answer of plain Django, for what fails outside REST framework."""
    response = HttpResponse(JSONRenderer().render(document), status=document["status"], content_type=CONTENT_TYPE)
    if document["status"] == 503:
        response["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """REST framework's hook: every error that a view raises leaves as a problem document.

    None for what nobody foresaw: Django logs it with its traceback, and ApiProblemMiddleware makes the answer.
    """
    request_id = getattr(context["request"], "request_id", "") if context.get("request") is not None else ""
    document = _document(error, request_id)
    if document is None:
        return None
    set_rollback()
    response = Response(document, status=document["status"], content_type=CONTENT_TYPE)
    wait = _wait(error, document)
    if wait is not None:
        response["Retry-After"] = str(wait)
    header = getattr(error, "auth_header", None)
    if header:
        response["WWW-Authenticate"] = header
    return response


def _document(error: Exception, request_id: str) -> dict[str, Any] | None:
    match error:
        case DomainError():
            return problem_of(error, request_id=request_id)
        case exceptions.ValidationError():
            faults = faults_of(error.get_full_details())
            return problem(422, "invalid", "Some fields are not valid.", request_id=request_id, errors=faults)
        case Http404():
            detail = "There is nothing here, or you may not see it."
            return problem(404, "not_found", detail, request_id=request_id)
        case PermissionDenied():
            return problem(403, "forbidden", "You may not do this.", request_id=request_id)
        case RequestDataTooBig():
            return problem(413, BodyTooLarge.default_code, BodyTooLarge.default_detail, request_id=request_id)
        case OperationalError() | InterfaceError():
            log.error("database_unavailable", request_id=request_id, exc_info=error)
            detail = "The database does not answer, or not in time; repeat in a moment."
            return problem(503, "database_unavailable", detail, request_id=request_id, retryable=True)
        case exceptions.APIException():
            extra = getattr(error, "extra", {})
            is_passing = error.status_code in {429, 503}
            return problem(
                error.status_code,
                _code(error),
                str(error.detail),
                request_id=request_id,
                retryable=is_passing,
                **extra,
            )
        case _:
            return None


def _wait(error: Exception, document: Mapping[str, Any]) -> int | None:
    """Seconds for ``Retry-After``."""
    wait = getattr(error, "wait", None)
    if wait is None and isinstance(error, DomainError):
        wait = error.extra.get("retry_after_seconds")
    if wait is not None:
        return int(wait) + 1
    return RETRY_AFTER_SECONDS if document["status"] == 503 or document["retryable"] else None


def _code(error: exceptions.APIException) -> str:
    codes = error.get_codes()
    return codes if isinstance(codes, str) else str(error.default_code)
