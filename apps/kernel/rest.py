"""What every API view shares: strict bodies and query parameters, cursor pages, entity tags, their documentation.

REST framework is lax by default: it takes 5 for a text, "yes" for a boolean and drops fields it does not know. Here an
unknown field, a wrong type or an unknown query parameter is refused with its pointer.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, NoReturn, TypeVar, cast

from django.core.exceptions import ValidationError
from django.db.models import Field, Model, QuerySet
from django.urls import register_converter
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import JSONParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.kernel.actor import Actor
from apps.kernel.errors import DomainError, ErrorKind, FieldError, InvalidInput

M = TypeVar("M", bound=Model)
V = TypeVar("V", bound=Callable[..., Response])
LIMIT = 50
MAX_LIMIT = 200
MAX_BODY_BYTES = 1024 * 1024
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")  # an escaped NUL, not the six characters of one after a backslash


class BodyTooLarge(APIException):
    status_code = 413
    default_code = "body_too_large"
    default_detail = f"A request has at most {MAX_BODY_BYTES:,} bytes."


class StrictJsonParser(JSONParser):
    """JSON as RFC 8259 means it, that PostgreSQL can keep: no infinity (1e999), no NUL, no half of a surrogate pair, no
    name twice, at most MAX_BODY_BYTES. REST framework's own would let these through, to end as a 500 further down."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        raw = stream.read(MAX_BODY_BYTES + 1)
        if len(raw) > MAX_BODY_BYTES:
            raise BodyTooLarge
        try:
            data = json.loads(
                raw.decode("utf-8"),
                object_pairs_hook=_object,
                parse_float=_finite,
                parse_constant=_no_constant,
            )
            _check_text(json.dumps(data, ensure_ascii=False))
        except RecursionError as error:
            raise ParseError("The JSON is nested too deeply.") from error
        except ValueError as error:
            raise ParseError(f"The body is not acceptable JSON: {error}") from error
        return data


def _check_text(text: str) -> None:
    text.encode("utf-8")  # UnicodeEncodeError, a ValueError, for a lone surrogate anywhere
    if _NUL.search(text):
        raise ValueError("a text contains the character NUL")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object names a member twice")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large a number")
    return value


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


class ApiView(APIView):
    """The base of every view under /api/v1; each declares ``action_required`` (accounts, default deny)."""

    parser_classes = (StrictJsonParser,)

    def handle_exception(self, exc: Exception) -> Response:
        """Adds ``kind``: 422 is both "that can never be right" and "a rule says no", and a CI job treats them apart."""
        response = super().handle_exception(exc)
        if isinstance(exc, DomainError):
            response.data["kind"] = exc.kind.value
        return response


def actor_of(request: Request) -> Actor:
    """Who calls; the sign-in of accounts has set it before any view runs."""
    return cast(Actor, request.actor)  # type: ignore[attr-defined]


class StrictChar(serializers.CharField):
    """A JSON string, nothing else."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str) or "\x00" in data:
            self.fail("invalid")
        return str(super().to_internal_value(data))


class StrictInteger(serializers.IntegerField):
    """A JSON whole number: no text, no fraction, no boolean."""

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, bool) or not isinstance(data, int):
            self.fail("invalid")
        return int(super().to_internal_value(data))


class StrictFloat(serializers.FloatField):
    """A finite JSON number."""

    def to_internal_value(self, data: Any) -> float:
        if isinstance(data, bool) or not isinstance(data, int | float) or not abs(data) < 1e300:
            self.fail("invalid")  # a whole number of 400 digits would not fit into a float
        return float(super().to_internal_value(data))


class StrictBoolean(serializers.BooleanField):
    """true or false."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return bool(data)


class StrictDateTime(serializers.DateTimeField):
    """RFC 3339 with an offset: a time without one means something else on every machine."""

    default_error_messages: ClassVar[dict[str, Any]] = {
        "offset": "Give the offset from UTC, for example 2026-03-01T12:00:00Z."
    }

    def to_internal_value(self, data: Any) -> datetime:
        if not isinstance(data, str) or "T" not in data.upper():
            self.fail("invalid", format="2026-03-01T12:00:00Z")
        tail = data.upper().partition("T")[2]
        if not (tail.endswith("Z") or "+" in tail or "-" in tail):
            self.fail("offset")
        return super().to_internal_value(data).astimezone(UTC)


class StrictObject(serializers.DictField):
    """A JSON object of anything."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            self.fail("not_a_dict", input_type=type(data).__name__)
        return dict(data)


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses fields it does not name."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            unknown = sorted(str(name) for name in set(data) - set(self.fields))
            if unknown:
                known = ", ".join(sorted(self.fields)) or "none"
                raise serializers.ValidationError(
                    {
                        name: [serializers.ErrorDetail(f"Unknown field; known are {known}.", "unknown")]
                        for name in unknown
                    }
                )
        return super().to_internal_value(data)


def body_of(request: Request, serializer: type[StrictSerializer]) -> dict[str, Any]:
    """The validated body. Raises ValidationError with pointers."""
    checked = serializer(data=request.data)
    checked.is_valid(raise_exception=True)
    return dict(checked.validated_data)


def query_of(request: Request, serializer: type[StrictSerializer]) -> dict[str, Any]:
    """The validated query parameters; one that ``serializer`` does not name is refused."""
    given: dict[str, Any] = {name: values[-1] for name, values in request.query_params.lists()}
    fields = serializer().fields
    unknown = sorted(set(given) - set(fields))
    if unknown:
        known = ", ".join(sorted(fields)) or "none"
        raise InvalidInput(
            "unknown_parameter",
            f"Unknown query parameter {unknown[0]!r}; known are {known}.",
            fields=tuple(FieldError(f"?{name}", "unknown_parameter", "Unknown query parameter.") for name in unknown),
        )
    checked = serializer(data={name: _typed(fields[name], value) for name, value in given.items()})
    checked.is_valid(raise_exception=True)
    return dict(checked.validated_data)


def _typed(field: serializers.Field[Any, Any, Any, Any], value: str) -> Any:
    """A query parameter is text; what a strict field wants is parsed here, anything else left for it to refuse."""
    if isinstance(field, serializers.BooleanField):
        return {"true": True, "false": False}.get(value, value)
    if isinstance(field, serializers.IntegerField):
        # bounded: int() of a very long text is refused by Python with an error of its own
        return int(value) if value.isascii() and value.removeprefix("-").isdigit() and len(value) < 20 else value
    return value


class PageQuery(StrictSerializer):
    """``limit`` (1 to 200) and ``cursor`` (what the page before gave as ``next_cursor``)."""

    limit = StrictInteger(min_value=1, max_value=MAX_LIMIT, default=LIMIT)
    cursor = StrictChar(required=False, max_length=200)


def page_of(
    rows: QuerySet[M], *, key: str, limit: int, show: Callable[[M], Mapping[str, Any]], cursor: str | None = None
) -> dict[str, Any]:
    """``{"items", "next_cursor"}`` in the order of the unique field ``key``; a leading "-" turns it around.

    Keyset pages: a row inserted meanwhile neither repeats nor hides another.
    """
    name = key.removeprefix("-")
    if cursor:
        place = _decoded(cursor, rows.model, name)
        rows = rows.filter(**{f"{name}__{'lt' if key.startswith('-') else 'gt'}": place})
    found = list(rows.order_by(key)[: limit + 1])
    more = len(found) > limit
    found = found[:limit]
    following = _encoded(str(getattr(found[-1], name))) if more else None
    return {"items": [show(row) for row in found], "next_cursor": following}


def _encoded(value: str) -> str:
    return base64.urlsafe_b64encode(value.encode()).decode().rstrip("=")


def _decoded(cursor: str, model: type[Model], name: str) -> Any:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
        value = cast("Field[Any, Any]", model._meta.get_field(name)).to_python(text)
    except (binascii.Error, UnicodeError, ValueError, ValidationError) as error:
        raise _bad_cursor() from error
    if "\x00" in text or len(text) > 200 or (isinstance(value, int) and not 0 <= value < 2**31):
        raise _bad_cursor()
    return value


def _bad_cursor() -> InvalidInput:
    return InvalidInput.at("?cursor", "bad_cursor", "Use next_cursor of the page before, unchanged.")


def with_etag(data: Mapping[str, Any], revision: int, *, status: int = 200) -> Response:
    """An answer whose strong entity tag is its revision."""
    return Response(data, status=status, headers={"ETag": f'"{revision}"'})


def iso(moment: datetime | None) -> str | None:
    """RFC 3339 in UTC, or None."""
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


class ProblemField(serializers.Serializer[Any]):
    """One field's fault; ``pointer`` is a JSON pointer into the body, ``?name`` for a query parameter."""

    pointer = serializers.CharField()
    code = serializers.CharField()
    detail = serializers.CharField()


class Problem(serializers.Serializer[Any]):
    """Problem details (RFC 9457). ``code`` is stable, ``detail`` a sentence with the way out, ``instance`` the request
    id. More members say more: the current phase, revision and step of a refused command, the roles that can."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    code = serializers.CharField()
    instance = serializers.CharField(allow_blank=True)
    kind = serializers.ChoiceField(
        choices=[kind.value for kind in ErrorKind],
        required=False,
        help_text="Tells the two meanings of 422 apart: invalid (a field is wrong) and refused (a rule says no).",
    )
    retryable = serializers.BooleanField(required=False)
    errors = ProblemField(many=True, required=False)  # type: ignore[assignment]


_MEANING = {
    400: "The body is not JSON.",
    401: "No key, or one that opens nothing.",
    403: "The role is missing; the answer names the roles that can.",
    404: "There is no such thing.",
    406: "Only application/json can be answered.",
    409: "The world has moved on; the answer says where it is now.",
    413: "The body is too large.",
    415: "The body is not application/json.",
    422: "A field is wrong, or a rule of the house says no; `errors` names the fields.",
    503: "Something below cannot be reached; repeat after `Retry-After`.",
}


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
) -> Callable[[V], V]:
    """Documents a handler; errors that its shape makes possible are added: 404 with a path, 422 with a query or body.

    ``path``: parameter -> what it is. ``is_idempotent``: takes ``Idempotency-Key``.
    """
    possible = {401, 403, 406, *errors}
    possible |= {404} if path else set()
    possible |= {422} if query or body or is_idempotent else set()
    possible |= {400, 413, 415} if body else set()
    possible |= {409} if is_idempotent else set()
    parameters: list[Any] = [
        OpenApiParameter(name, OpenApiTypes.STR, OpenApiParameter.PATH, description=meaning)
        for name, meaning in (path or {}).items()
    ]
    parameters += [query] if query else []
    parameters += [_IDEMPOTENCY_KEY] if is_idempotent else []
    documented: dict[Any, Any] = dict(answers)
    for status in sorted(possible):
        documented[status, "application/problem+json"] = OpenApiResponse(Problem, description=_MEANING[status])
    return cast(
        Callable[[V], V],
        extend_schema(
            operation_id=operation_id,
            summary=summary,
            description=description,
            tags=[tag],
            parameters=parameters,
            request=body,
            responses=documented,
        ),
    )


_IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!-~]([ -~]*[!-~])?$"},
    OpenApiParameter.HEADER,
    description="The same key with the same request is answered from what was stored, once carried out; kept 72 hours.",
)


def page_schema(name: str, item: type[serializers.Serializer[Any]]) -> serializers.Serializer[Any]:
    """The schema of a page of ``item``."""
    fields = {"items": item(many=True), "next_cursor": serializers.CharField(allow_null=True)}
    return cast("serializers.Serializer[Any]", inline_serializer(f"{name}Page", fields))


class NameConverter:
    """A name or id in a path; anything else is 404 before it reaches the database (which refuses NUL)."""

    regex = r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


register_converter(NameConverter, "name")
