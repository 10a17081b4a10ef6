"""Searches by the filter grammar of the MLflow protocol, as lists of /api/v1: the same texts, the same exact pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from django.db.models import Model as DjangoModel
from django.db.models import QuerySet

from apps.kernel.errors import InvalidInput
from apps.kernel.rest import PageQuery, StrictChar
from apps.registry.domain.filters import MAX_FILTER
from apps.registry.selectors.search import Page

M = TypeVar("M", bound=DjangoModel)
MAX_CURSOR = 4_000
_PARAMETERS = {"/filter": "?filter", "/order_by": "?order_by", "/page_token": "?cursor"}


class FilterQuery(PageQuery):
    """``filter`` and ``order_by`` narrow and turn a list; a ``cursor`` belongs to the filter and order that gave it."""

    filter = StrictChar(
        required=False,
        max_length=MAX_FILTER,
        help_text="MLflow's grammar: name LIKE 'late-%' AND tags.owner = 'risk'. Of versions also run_id, source_path "
        "and version_number.",
    )
    order_by = StrictChar(
        required=False,
        max_length=400,
        help_text="name, creation_timestamp or last_updated_timestamp, of versions also version_number; DESC turns one "
        "around; several with commas.",
    )
    cursor = StrictChar(required=False, max_length=MAX_CURSOR)


def is_filtered(asked: Mapping[str, Any]) -> bool:
    return bool(asked.get("filter") or asked.get("order_by"))


def found_of(
    asked: Mapping[str, Any],
    search: Callable[..., Page],
    rows: QuerySet[M],
    show: Callable[[M], Mapping[str, Any]],
) -> dict[str, Any]:
    """A page of what ``search`` finds. ``rows`` says what ``show`` reads of each.

    Raises InvalidInput at ``?filter``, ``?order_by`` or ``?cursor``.
    """
    order_by = [part.strip() for part in asked.get("order_by", "").split(",") if part.strip()]
    with _parameters_named():
        page = search(
            text=asked.get("filter", ""), order_by=order_by, limit=asked["limit"], token=asked.get("cursor", "")
        )
    found = rows.in_bulk(page.ids)
    items = [show(found[one]) for one in page.ids if one in found]
    return {"items": items, "next_cursor": page.next_token or None}


@contextmanager
def _parameters_named() -> Iterator[None]:
    """The search names the fields of the protocol; here they are query parameters."""
    try:
        yield
    except InvalidInput as error:
        fields = tuple(replace(one, pointer=_PARAMETERS.get(one.pointer, one.pointer)) for one in error.fields)
        raise InvalidInput(error.code, error.detail, fields=fields, extra=error.extra) from error
