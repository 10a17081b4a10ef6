"""What a problem document (RFC 9457) looks like, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiExample
from rest_framework import serializers

from apps.kernel.errors import ErrorKind


class ProblemField(serializers.Serializer[Any]):
    """One field's fault; ``pointer`` is a JSON pointer into the body ("": all of it), ``?name`` a query parameter."""

    pointer = serializers.CharField(allow_blank=True)
    code = serializers.CharField()
    detail = serializers.CharField()


class Problem(serializers.Serializer[Any]):
    """Problem details (RFC 9457). ``type`` is the address of a page that says what to do, ``code`` is stable,
    ``detail`` a sentence with the way out, ``instance`` the request id. More members say more: the revision, step and
    phase of a refused command and the actions that are possible instead, the roles that can."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    code = serializers.CharField()
    kind = serializers.ChoiceField(
        choices=[kind.value for kind in ErrorKind],
        help_text="Tells the two meanings of 422 apart: invalid (a field is wrong) and refused (a rule says no).",
    )
    retryable = serializers.BooleanField(help_text="Whether the same call may succeed later.")
    instance = serializers.CharField(allow_blank=True)
    errors = ProblemField(many=True, required=False)  # type: ignore[assignment]
    allowed_actions = serializers.ListField(
        child=serializers.CharField(), required=False, help_text="Of a refused command: what could be asked instead."
    )


MEANING = {
    400: "The body is not JSON.",
    401: "No key, or one that opens nothing.",
    403: "The role is missing; the answer names the roles that can.",
    404: "There is no such thing.",
    406: "Only application/json can be answered.",
    409: "The world has moved on, or the first call with this key still runs; the answer says where it is now.",
    412: "It has changed since you looked.",
    413: "The body is too large.",
    415: "The body is not application/json.",
    422: "A field is wrong, or a rule of the house says no; `errors` names the fields.",
    428: "If-Match is missing.",
    429: "Too many calls; repeat after `Retry-After`.",
    500: "A fault of the server's own; its log has more under the request id.",
    503: "Something below cannot be reached; repeat after `Retry-After`.",
}
_PAGE = "https://pilothouse.example.com/api/v1/problems"


def _example(name: str, section: str, status: int, title: str, **members: Any) -> OpenApiExample:
    document = {"type": f"{_PAGE}#{section}", "title": title, "status": status, "retryable": False, **members}
    return OpenApiExample(name, value={**document, "instance": "5f0c3b1e8a7d4f6c9b2e"})


_EXAMPLES = {
    409: (
        _example(
            "stale",
            "conflict",
            409,
            "The state has moved on",
            code="stale_revision",
            kind="conflict",
            detail="This rollout moved on meanwhile: it is at revision 8, step 3, paused. Look again.",
            revision=8,
            step=2,
            phase="paused",
            allowed_actions=["resume", "promote", "abort", "roll-back"],
        ),
        _example(
            "in flight",
            "conflict",
            409,
            "The state has moved on",
            code="idempotency_in_flight",
            kind="conflict",
            detail="The first call with this Idempotency-Key is still running; repeat in a moment.",
        ),
    ),
    422: (
        _example(
            "a wrong field",
            "invalid",
            422,
            "The request cannot be carried out",
            code="invalid",
            kind="invalid",
            detail="Some fields are not valid.",
            errors=[{"pointer": "/colour", "code": "unknown", "detail": "Unknown field; known are description, name."}],
        ),
        _example(
            "refused by a rule",
            "refused",
            422,
            "The request cannot be carried out",
            code="version_not_ready",
            kind="refused",
            detail="Version 1.2.0 is failed; only a ready version can be served.",
        ),
    ),
}


def examples_of(status: int) -> list[OpenApiExample]:
    """Examples for the statuses that a caller has to tell apart."""
    return list(_EXAMPLES.get(status, ()))
