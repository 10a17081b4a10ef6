"""From a request to checked values: the body, the query parameters, who calls."""

from __future__ import annotations

from typing import Any, cast

from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from apps.kernel.actor import Actor
from apps.kernel.errors import FieldError, InvalidInput
from apps.kernel.rest.faults import faults_of
from apps.kernel.rest.fields import StrictSerializer


def actor_of(request: Request) -> Actor:
    """Who calls; the sign-in of accounts has set it before any view runs."""
    return cast(Actor, request.actor)  # type: ignore[attr-defined]


def body_of(request: Request, serializer: type[StrictSerializer]) -> dict[str, Any]:
    """The validated body. Raises ValidationError, which becomes 422 with a JSON pointer per field."""
    checked = serializer(data=request.data)
    checked.is_valid(raise_exception=True)
    return dict(checked.validated_data)


def query_of(request: Request, serializer: type[StrictSerializer]) -> dict[str, Any]:
    """The validated query parameters. Raises InvalidInput with ``?name`` for an unknown, repeated or wrong one."""
    query_refuse_unknown(request, serializer)
    fields = serializer().fields
    given = {name: _typed(fields[name], value) for name, value in request.query_params.items()}
    checked = serializer(data=given)
    try:
        checked.is_valid(raise_exception=True)
    except ValidationError as error:
        faults = faults_of(error.get_full_details(), in_query=True)
        raise InvalidInput("invalid", "Some query parameters are not valid.", fields=faults) from error
    return dict(checked.validated_data)


def query_refuse_unknown(request: Request, serializer: type[serializers.Serializer[Any]] | None) -> None:
    """Raises InvalidInput for a parameter that ``serializer`` does not name (None: there are none), or names twice."""
    fields = serializer().fields if serializer is not None else {}
    known = ", ".join(sorted(fields)) or "none"
    faults = []
    for name, values in sorted(request.query_params.lists()):
        if name not in fields:
            faults.append(FieldError(f"?{name}", "unknown_parameter", f"Unknown query parameter; known are {known}."))
        elif len(values) > 1:
            faults.append(FieldError(f"?{name}", "repeated_parameter", "Give it once."))
    if faults:
        name, first = faults[0].pointer.removeprefix("?"), faults[0]
        detail = f"Query parameter {name!r}: {first.detail[0].lower()}{first.detail[1:]}"
        raise InvalidInput(first.code, detail, fields=tuple(faults))


def _typed(field: serializers.Field[Any, Any, Any, Any], value: Any) -> Any:
    """A query parameter is text; what a strict field wants is parsed here, anything else left for it to refuse."""
    if isinstance(field, serializers.BooleanField):
        return {"true": True, "false": False}.get(value, value)
    if isinstance(field, serializers.IntegerField):
        # bounded: int() of a very long text is refused by Python with an error of its own
        return int(value) if value.isascii() and value.removeprefix("-").isdigit() and len(value) < 20 else value
    return value
