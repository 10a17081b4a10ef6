"""The filter and order texts of the MLflow protocol, read by a small tokenizer of our own.

    name LIKE 'fraud%' AND tags.`data set` = 'x' AND version_number >= 3

Clauses are joined by AND alone; there is no OR and no parenthesis but around the list of IN. What is read is data,
never part of an SQL text: the reader of the result binds every value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from apps.kernel.errors import InvalidInput

MAX_FILTER = 10_000
MAX_CLAUSES = 50
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
    | (?P<tick>`[^`]*`)
    | (?P<number>-?\d+(?:\.\d+)?(?![\w]))
    | (?P<operator><>|!=|>=|<=|=|<|>)
    | (?P<mark>[(),.])
    | (?P<word>[^\W\d][\w\-]*)
    )""",
    re.VERBOSE,
)


class Kind(StrEnum):
    """What an attribute holds, and with it the comparators that it takes."""

    TEXT = "text"
    TEXT_OR_LIST = "text_or_list"
    NUMBER = "number"


_COMPARATORS: Mapping[Kind, frozenset[str]] = {
    Kind.TEXT: frozenset({"=", "!=", "LIKE", "ILIKE"}),
    Kind.TEXT_OR_LIST: frozenset({"=", "!=", "LIKE", "ILIKE", "IN", "NOT IN"}),
    Kind.NUMBER: frozenset({"=", "!=", ">", ">=", "<", "<="}),
}
MODEL_ATTRIBUTES: Mapping[str, Kind] = {"name": Kind.TEXT_OR_LIST}
VERSION_ATTRIBUTES: Mapping[str, Kind] = {
    "name": Kind.TEXT_OR_LIST,
    "run_id": Kind.TEXT_OR_LIST,
    "source_path": Kind.TEXT,
    "version_number": Kind.NUMBER,
}
MODEL_ORDERS = ("name", "creation_timestamp", "last_updated_timestamp")
VERSION_ORDERS = ("name", "version_number", "creation_timestamp", "last_updated_timestamp")


@dataclass(frozen=True, slots=True)
class Clause:
    """``key comparator value``; ``is_tag`` tells a tag's key from an attribute. The value of IN is a tuple."""

    key: str
    is_tag: bool
    comparator: str
    value: str | int | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Order:
    key: str
    is_ascending: bool


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str


def parse_filter(text: str, attributes: Mapping[str, Kind]) -> tuple[Clause, ...]:
    """Raises InvalidInput at ``/filter`` with a sentence that names the clause."""
    if len(text) > MAX_FILTER:
        raise _fault(f"The filter has more than {MAX_FILTER:,} characters.")
    reader = _Reader(_tokens(text), attributes)
    clauses = reader.clauses()
    if len(clauses) > MAX_CLAUSES:
        raise _fault(f"The filter has more than {MAX_CLAUSES} clauses.")
    return clauses


def parse_order(texts: Iterable[str], keys: Sequence[str]) -> tuple[Order, ...]:
    """``["name DESC", "last_updated_timestamp"]``. Raises InvalidInput at ``/order_by``."""
    found: list[Order] = []
    for text in texts:
        words = text.replace("`", "").replace('"', "").split()
        key = words[0].removeprefix("attribute.").removeprefix("attributes.") if words else ""
        key = "last_updated_timestamp" if key == "timestamp" else key
        direction = words[1].upper() if len(words) == 2 else "ASC"
        if key not in keys or len(words) > 2 or direction not in {"ASC", "DESC"}:
            named = ", ".join(keys)
            raise InvalidInput.at(
                "/order_by", "bad_order", f"Invalid order by key '{text}' specified. Valid keys are '{named}'."
            )
        if any(order.key == key for order in found):
            raise InvalidInput.at("/order_by", "bad_order", f"`order_by` contains duplicate fields: {key}")
        found.append(Order(key, direction == "ASC"))
    return tuple(found)


def _tokens(text: str) -> list[_Token]:
    found, at, end = [], 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise _fault(f"Invalid clause(s) in filter string: {text[at : at + 60].strip()}")
        found.append(_Token(match.lastgroup, match.group(match.lastgroup)))
        at = match.end()
    return found


class _Reader:
    """Recursive descent over the tokens of one filter."""

    def __init__(self, tokens: list[_Token], attributes: Mapping[str, Kind]) -> None:
        self._tokens, self._at, self._attributes = tokens, 0, attributes

    def clauses(self) -> tuple[Clause, ...]:
        if not self._tokens:
            return ()
        found = [self._clause()]
        while (token := self._next()) is not None:
            if token.kind != "word" or token.text.upper() != "AND":
                raise _fault(f"Invalid clause(s) in filter string: {self._rest(token)}. Clauses are joined by AND.")
            found.append(self._clause())
        return tuple(found)

    def _clause(self) -> Clause:
        entity, key = self._identifier()
        comparator = self._comparator()
        if entity in {"tag", "tags"}:
            if comparator not in _COMPARATORS[Kind.TEXT]:
                raise _fault(f"Invalid comparator for tag: {comparator}")
            return Clause(key, True, comparator, self._text("tag"))
        kind = self._attributes.get(key)
        if kind is None:
            named = ", ".join(sorted(self._attributes))
            raise _fault(f"Invalid attribute key '{key}' specified. Valid keys are '{named}'")
        if comparator not in _COMPARATORS[kind]:
            raise _fault(f"Invalid comparator for attribute {key}: {comparator}")
        if kind is Kind.NUMBER:
            return Clause(key, False, comparator, self._number(key))
        return Clause(key, False, comparator, self._list() if comparator.endswith("IN") else self._text("attributes"))

    def _identifier(self) -> tuple[str, str]:
        first = self._name()
        if self._peek() != ".":
            return "attribute", first
        self._next()
        if first not in {"attribute", "attributes", "tag", "tags"}:
            raise _fault(f"Invalid entity type '{first}'. Valid entity types are ('attribute', 'tag', 'tags')")
        key = self._name()
        while self._peek() == ".":
            self._next()
            key += "." + self._name()
        return first.rstrip("s") if first.startswith("attribute") else first, key

    def _name(self) -> str:
        token = self._next()
        if token is None or token.kind not in {"word", "tick", "text"}:
            raise _fault(f"Invalid clause(s) in filter string: {self._rest(token)}")
        return token.text if token.kind == "word" else token.text[1:-1]

    def _comparator(self) -> str:
        token = self._next()
        text = token.text.upper() if token is not None else ""
        if text == "NOT" and self._peek().upper() == "IN":
            self._next()
            return "NOT IN"
        if token is None or not (token.kind == "operator" or text in {"LIKE", "ILIKE", "IN"}):
            raise _fault(f"Invalid clause(s) in filter string: {self._rest(token)}")
        return text

    def _text(self, what: str) -> str:
        token = self._next()
        if token is None or token.kind != "text":
            got = token.text if token else ""
            raise _fault(f"Expected a quoted string value for {what} (e.g. 'my-value'). Got value {got}")
        quote = token.text[0]
        return token.text[1:-1].replace(quote * 2, quote)

    def _number(self, key: str) -> int:
        token = self._next()
        text = token.text.strip("'\"") if token is not None else ""
        if not re.fullmatch(r"-?\d{1,18}", text, re.ASCII):
            raise _fault(f"Invalid value for numeric attribute '{key}': {text!r}")
        return int(text)

    def _list(self) -> tuple[str, ...]:
        if self._peek() != "(":
            raise _fault("IN takes a list of quoted strings in parentheses, for example name IN ('a', 'b').")
        self._next()
        found = [self._text("attributes")]
        while self._peek() == ",":
            self._next()
            found.append(self._text("attributes"))
        if self._peek() != ")":
            raise _fault("While parsing a list in the query, expected a string value, punctuation, or whitespace.")
        self._next()
        return tuple(found)

    def _next(self) -> _Token | None:
        if self._at >= len(self._tokens):
            return None
        self._at += 1
        return self._tokens[self._at - 1]

    def _peek(self) -> str:
        return self._tokens[self._at].text if self._at < len(self._tokens) else ""

    def _rest(self, token: _Token | None) -> str:
        rest = " ".join(each.text for each in self._tokens[max(0, self._at - 1) :])
        return (rest if token is not None else "the filter ends too early")[:80]


def _fault(detail: str) -> InvalidInput:
    return InvalidInput.at("/filter", "bad_filter", detail)
