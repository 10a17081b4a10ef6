"""Searches of the MLflow protocol: parsed filters to conditions, exact pages by key.

A page token holds where the last row stood in the order asked for, bound to the query that it belongs to. Rows that
come and go between two pages are neither repeated nor do they push others out.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from django.db.models import CharField, Exists, F, Lookup, OuterRef, Q, QuerySet, TextField
from django.db.models.functions import Left

from apps.kernel.actor import Actor
from apps.kernel.errors import InvalidInput
from apps.registry.domain.filters import (
    MODEL_ATTRIBUTES,
    MODEL_ORDERS,
    VERSION_ATTRIBUTES,
    VERSION_ORDERS,
    Clause,
    Order,
    parse_filter,
    parse_order,
)
from apps.registry.domain.names import IS_PROMPT_TAG
from apps.registry.domain.words import ModelKind
from apps.registry.models import Model, ModelTag, ModelVersion, VersionTag
from apps.registry.models.catalogue import INDEXED_VALUE
from apps.registry.selectors import readable_q, readable_teams, rows

_MODEL_COLUMNS = {"name": "name", "creation_timestamp": "created_at", "last_updated_timestamp": "updated_at"}
_VERSION_COLUMNS = {
    "name": "model__name",
    "version_number": "number",
    "creation_timestamp": "created_at",
    "last_updated_timestamp": "updated_at",
    "run_id": "run_id",
    "source_path": "source_uri",
}
_LOOKUPS = {"=": "", ">": "__gt", ">=": "__gte", "<": "__lt", "<=": "__lte", "LIKE": "__like", "ILIKE": "__ilike"}


class Like(Lookup):
    """SQL's LIKE with its ``%`` and ``_`` and no escape character: a pattern that ends in one would be an error."""

    lookup_name = "like"
    word = "LIKE"

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, tuple[Any, ...]]:
        left, left_values = self.process_lhs(compiler, connection)
        right, right_values = self.process_rhs(compiler, connection)
        return f"{left} {self.word} {right} ESCAPE ''", (*left_values, *right_values)


class ILike(Like):
    lookup_name = "ilike"
    word = "ILIKE"


for _field in (CharField, TextField):
    _field.register_lookup(Like)
    _field.register_lookup(ILike)


@dataclass(frozen=True, slots=True)
class Page:
    """Ids in order and the token of the next page, "" at the end."""

    ids: list[str]
    next_token: str


def search_models(*, actor: Actor, text: str, order_by: Sequence[str], limit: int, token: str) -> Page:
    """What the actor may see. Raises InvalidInput at ``/filter``, ``/order_by`` or ``/page_token``."""
    clauses, order = parse_filter(text, MODEL_ATTRIBUTES), parse_order(order_by, MODEL_ORDERS)
    found, kind = Model.objects.filter(readable_q(actor, "team_id")), ModelKind.MODEL
    for clause in clauses:
        if clause.is_tag and clause.key == IS_PROMPT_TAG:
            kind = _kind_asked(clause)
        elif clause.is_tag:
            found = found.filter(_tagged(ModelTag.objects.filter(model=OuterRef("pk")), clause))
        else:
            found = found.filter(compared("name", clause))
    columns = [(_MODEL_COLUMNS[one.key], one.is_ascending) for one in _with(order, Order("name", True))]
    return _page(found.filter(kind=kind), columns, limit, token, ("models", text, list(order_by)))


def plain_models(
    *, actor: Actor, text: str, order_by: Sequence[str], limit: int, token: str
) -> tuple[list[rows.Mark], str] | None:
    """A page of models by name and the token of the next, when nothing else is asked: the usual search, in one
    statement. None when more is asked. The tokens are those of ``search_models``."""
    clauses = [] if order_by else parse_filter(text, MODEL_ATTRIBUTES)
    if order_by or len(clauses) > 1 or any(not one.is_tag or one.key != IS_PROMPT_TAG for one in clauses):
        return None
    kind = _kind_asked(clauses[0]) if clauses else ModelKind.MODEL
    digest = _digest(("models", text, list(order_by)))
    after = _opened(token, digest, ["name"])[0] if token else ""
    found = rows.model_marks_after(after, kind.value, limit + 1, readable_teams(actor))
    return found[:limit], _token(digest, [found[limit - 1].name]) if len(found) > limit else ""


def search_versions(
    *, actor: Actor, text: str, order_by: Sequence[str], limit: int, token: str, model: Model | None = None
) -> Page:
    """What the actor may see; of ``model`` only, whatever its kind, where one is given.

    Raises InvalidInput at ``/filter``, ``/order_by`` or ``/page_token``.
    """
    clauses, order = parse_filter(text, VERSION_ATTRIBUTES), parse_order(order_by, VERSION_ORDERS)
    found = ModelVersion.objects.filter(readable_q(actor, "model__team_id"), model__deleted_at=None)
    kind = ModelKind.MODEL
    for clause in clauses:
        if clause.is_tag and clause.key == IS_PROMPT_TAG:
            kind = _kind_asked(clause)
        elif clause.is_tag:
            found = found.filter(_tagged(VersionTag.objects.filter(version=OuterRef("pk")), clause))
        else:
            found = found.filter(compared(_VERSION_COLUMNS[clause.key], clause))
    wanted = order or (Order("last_updated_timestamp", False),)
    wanted = _with(_with(wanted, Order("name", True)), Order("version_number", False))
    columns = [(_VERSION_COLUMNS[one.key], one.is_ascending) for one in wanted]
    found = found.filter(model__kind=kind) if model is None else found.filter(model=model)
    query = ("versions", text, list(order_by), *([model.pk] if model is not None else []))
    return _page(found, columns, limit, token, query)


def only_model_asked(*, text: str, order_by: Sequence[str], token: str) -> str:
    """The model whose versions are asked for, when that is all that is asked: the usual search of scripts. Else ""."""
    if token or order_by:
        return ""
    clauses = parse_filter(text, VERSION_ATTRIBUTES)
    if len(clauses) != 1 or clauses[0].key != "name" or clauses[0].is_tag or clauses[0].comparator != "=":
        return ""
    return str(clauses[0].value)


def _with(order: Sequence[Order], last: Order) -> tuple[Order, ...]:
    return tuple(order) if any(one.key == last.key for one in order) else (*order, last)


def _kind_asked(clause: Clause) -> ModelKind:
    """Whoever lacks the prompt tag is no prompt: the client appends ``!= 'true'`` to every search for models."""
    is_true = str(clause.value).lower() == "true"
    return ModelKind.PROMPT if is_true == (clause.comparator == "=") else ModelKind.MODEL


def compared(column: str, clause: Clause) -> Q:
    """The filter of a clause on a column."""
    match clause.comparator:
        case "!=":
            return ~Q(**{column: clause.value})
        case "IN":
            return Q(**{f"{column}__in": clause.value})
        case "NOT IN":
            return ~Q(**{f"{column}__in": clause.value})
        case comparator:
            return Q(**{f"{column}{_LOOKUPS[comparator]}": clause.value})


def _tagged(tags: QuerySet[Any], clause: Clause) -> Exists:
    """A row without the tag never matches, whatever the comparator."""
    tags = tags.filter(key=clause.key)
    if clause.comparator == "=":
        # The index holds the beginning of each value.
        tags = tags.alias(beginning=Left("value", INDEXED_VALUE)).filter(beginning=str(clause.value)[:INDEXED_VALUE])
    return Exists(tags.filter(compared("value", clause)))


def _page(
    found: QuerySet[Any], columns: list[tuple[str, bool]], limit: int, token: str, query: tuple[Any, ...]
) -> Page:
    names = [name for name, _ in columns]
    digest = _digest(query)
    if token:
        found = found.filter(_after(columns, _opened(token, digest, names)))
    found = found.order_by(*(F(name).asc() if up else F(name).desc() for name, up in columns))
    listed = list(found.values_list("pk", *names)[: limit + 1])
    if len(listed) <= limit:
        return Page([row[0] for row in listed], "")
    last = [value.isoformat() if isinstance(value, datetime) else value for value in listed[limit - 1][1:]]
    return Page([row[0] for row in listed[:limit]], _token(digest, last))


def _digest(query: tuple[Any, ...]) -> str:
    return hashlib.sha256(orjson.dumps(query)).hexdigest()[:16]


def _token(digest: str, last: Sequence[Any]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps({"q": digest, "k": last})).decode("ascii")


def _after(columns: list[tuple[str, bool]], last: Sequence[Any]) -> Q:
    """(a, b) stands after (x, y): a beyond x, or a = x and b beyond y; and a not before x, for the index's sake."""
    beyond = Q(pk__in=[])
    equal = Q()
    for (name, is_ascending), value in zip(columns, last, strict=True):
        beyond |= equal & Q(**{f"{name}__{'gt' if is_ascending else 'lt'}": value})
        equal &= Q(**{name: value})
    first, is_ascending = columns[0]
    return Q(**{f"{first}__{'gte' if is_ascending else 'lte'}": last[0]}) & beyond


def _opened(token: str, digest: str, names: Sequence[str]) -> list[Any]:
    try:
        held = orjson.loads(base64.urlsafe_b64decode(token.encode("ascii")))
        if held["q"] != digest:
            raise InvalidInput.at(
                "/page_token", "bad_page_token", "Invalid page token: it belongs to another filter or order."
            )
        read: list[Any] = [_READERS.get(name, str)(value) for name, value in zip(names, held["k"], strict=True)]
    except (ValueError, TypeError, KeyError, UnicodeError, binascii.Error) as error:
        detail = "Invalid page token, could not base64-decode"
        raise InvalidInput.at("/page_token", "bad_page_token", detail) from error
    return read


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "created_at": datetime.fromisoformat,
    "updated_at": datetime.fromisoformat,
    "number": int,
}
