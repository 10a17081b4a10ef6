"""What the OpenAPI document says about an operation: its answers, every error it can give, and what it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.response import Response

from apps.kernel.rest.problem_schema import MEANING, Problem, examples_of

V = TypeVar("V", bound=Callable[..., Response])
ALWAYS = frozenset({401, 403, 406, 429, 500, 503})
_DECLARED = "declared_query"
IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!-~]([ -~]*[!-~])?$"},
    OpenApiParameter.HEADER,
    description="The same key with the same request is answered from what was stored, once carried out; kept 72 hours.",
)
_TAGS = {"type": "string"}  # no pattern: a malformed If-None-Match is ignored, as RFC 9110 wants, an If-Match is 412
IF_NONE_MATCH = OpenApiParameter(
    "If-None-Match", _TAGS, OpenApiParameter.HEADER, description="The ETag that you have; 304 when it is still right."
)
IF_MATCH = OpenApiParameter(
    "If-Match",
    _TAGS,
    OpenApiParameter.HEADER,
    description='What you saw: the ETag, only its revision ("17"), or * for any. Required: 428 without it.',
)


def operation(
    operation_id: str,
    summary: str,
    *,
    tag: str,
    answers: Mapping[int, Any],
    description: str = "",
    query: type[serializers.Serializer[Any]] | None = None,
    body: type[serializers.Serializer[Any]] | None = None,
    path: Mapping[str, str] | None = None,
    errors: Sequence[int] = (),
    is_idempotent: bool = False,
    has_etag: bool = False,
    needs_if_match: bool = False,
) -> Callable[[V], V]:
    """Documents a handler; errors that its shape makes possible are added: 404 with a path, 422 with a query or body.

    ``path``: parameter -> what it is. ``query``: the parameters it takes; any other is refused. ``is_idempotent``:
    takes ``Idempotency-Key``. ``has_etag``: answers by ``with_etag``. ``needs_if_match``: calls ``if_match``.
    """
    parameters: list[Any] = [
        OpenApiParameter(name, OpenApiTypes.STR, OpenApiParameter.PATH, description=meaning)
        for name, meaning in (path or {}).items()
    ]
    parameters += [query] if query else []
    for is_taken, header in (
        (is_idempotent, IDEMPOTENCY_KEY),
        (has_etag, IF_NONE_MATCH),
        (needs_if_match, IF_MATCH),
    ):
        parameters += [header] if is_taken else []
    documented: dict[Any, Any] = dict(answers)
    if has_etag:
        documented[304] = OpenApiResponse(None, description="What you have is still right.")
    possible = _possible(errors, path, body, is_idempotent, needs_if_match)
    for status in sorted(possible):
        documented[status, "application/problem+json"] = OpenApiResponse(
            Problem, description=MEANING[status], examples=examples_of(status)
        )
    extend = extend_schema(
        operation_id=operation_id,
        summary=summary,
        description=description,
        tags=[tag],
        parameters=parameters,
        request=body,
        responses=documented,
    )

    def document(handler: V) -> V:
        setattr(handler, _DECLARED, query)
        return cast(V, extend(handler))

    return document


def query_declared(handler: Any) -> tuple[bool, type[serializers.Serializer[Any]] | None]:
    """Whether ``@operation`` stands on a handler, and the query parameters that it names."""
    return hasattr(handler, _DECLARED), getattr(handler, _DECLARED, None)


def page_schema(name: str, item: type[serializers.Serializer[Any]]) -> serializers.Serializer[Any]:
    """The schema of a page of ``item``."""
    fields = {"items": item(many=True), "next_cursor": serializers.CharField(allow_null=True)}
    return cast("serializers.Serializer[Any]", inline_serializer(f"{name}Page", fields))


def _possible(errors: Sequence[int], path: Any, body: Any, is_idempotent: bool, needs_if_match: bool) -> set[int]:
    possible = {*ALWAYS, 422, *errors}  # 422: an unknown query parameter, if nothing else
    possible |= {404} if path else set()
    possible |= {400, 413, 415} if body else set()
    possible |= {409} if is_idempotent else set()
    possible |= {412, 428} if needs_if_match else set()
    return possible
