"""Keyset pages behind opaque cursors; the way to the next page is also said in the ``Link`` header (RFC 8288)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from django.core.exceptions import ValidationError
from django.db.models import Field, Model, QuerySet
from rest_framework.request import Request

from apps.kernel.errors import InvalidInput
from apps.kernel.rest.fields import StrictChar, StrictInteger, StrictSerializer

M = TypeVar("M", bound=Model)
LIMIT = 50
MAX_LIMIT = 200


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


def link_of(request: Request, data: Any) -> str:
    """The ``Link`` header of a page, "" where ``data`` is none or the last one."""
    if not isinstance(data, Mapping) or not {"items", "next_cursor"} <= data.keys() or data["next_cursor"] is None:
        return ""
    query = request.query_params.copy()
    query["cursor"] = data["next_cursor"]
    return f'<{request.path}?{query.urlencode()}>; rel="next"'
