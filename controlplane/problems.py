"""The only module that knows what HTTP makes of an error: problem details, RFC 9457."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import set_rollback

from apps.kernel.errors import DomainError, ErrorKind

CONTENT_TYPE = "application/problem+json"
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
    415: "Unsupported media type",
    422: "The request cannot be carried out",
    428: "Precondition required",
    429: "Too many requests",
    503: "Something below is unavailable",
}


def problem(status: int, code: str, detail: str, *, request_id: str = "", **extra: Any) -> dict[str, Any]:
    """A problem document; ``extra`` members are added when they are not empty."""
    document: dict[str, Any] = {
        "type": f"/problems/{code}",
        "title": TITLES.get(status, "Error"),
        "status": status,
        "detail": detail,
        "code": code,
        "instance": request_id,
    }
    document.update({name: value for name, value in extra.items() if value not in (None, [], {})})
    return document


def problem_of(error: DomainError, *, request_id: str = "") -> dict[str, Any]:
    """The problem document of a domain error."""
    fields = [{"pointer": item.pointer, "code": item.code, "detail": item.detail} for item in error.fields]
    return problem(
        STATUS[error.kind],
        error.code,
        error.detail,
        request_id=request_id,
        retryable=error.is_retryable,
        errors=fields,
        **error.extra,
    )


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """REST framework's hook: every error that a view raises leaves as a problem document."""
    request_id = getattr(context["request"], "request_id", "") if context.get("request") is not None else ""
    if isinstance(error, DomainError):
        document = problem_of(error, request_id=request_id)
    elif isinstance(error, exceptions.ValidationError):
        document = problem(
            422,
            "invalid",
            "Some fields are not valid.",
            request_id=request_id,
            errors=list(_flatten(error.get_full_details())),
        )
    elif isinstance(error, Http404):
        document = problem(404, "not_found", "There is nothing here, or you may not see it.", request_id=request_id)
    elif isinstance(error, PermissionDenied):
        document = problem(403, "forbidden", "You may not do this.", request_id=request_id)
    elif isinstance(error, exceptions.APIException):
        document = problem(error.status_code, _code(error), str(error.detail), request_id=request_id)
    else:
        return None
    set_rollback()
    response = Response(document, status=document["status"], content_type=CONTENT_TYPE)
    wait = getattr(error, "wait", None)
    if wait is not None:
        response["Retry-After"] = str(int(wait) + 1)
    if document["status"] == 503:
        response["Retry-After"] = "2"
    header = getattr(error, "auth_header", None)
    if header:
        response["WWW-Authenticate"] = header
    return response


def _code(error: exceptions.APIException) -> str:
    codes = error.get_codes()
    return codes if isinstance(codes, str) else str(error.default_code)


def _flatten(details: Any, pointer: str = "") -> Any:
    """DRF's nested error details as flat ``{"pointer", "code", "detail"}`` rows."""
    if isinstance(details, dict) and {"message", "code"} <= details.keys() and isinstance(details["message"], str):
        yield {"pointer": pointer or "/", "code": details["code"], "detail": details["message"]}
    elif isinstance(details, dict):
        for name, inner in details.items():
            yield from _flatten(inner, pointer if name == "non_field_errors" else f"{pointer}/{name}")
    else:
        for position, inner in enumerate(details):
            is_leaf = isinstance(inner, dict) and {"message", "code"} <= inner.keys()
            yield from _flatten(inner, pointer if is_leaf else f"{pointer}/{position}")
