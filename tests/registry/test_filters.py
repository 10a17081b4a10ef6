"""The filter grammar: what is read, what is refused, and that nothing gets lost in between."""

from __future__ import annotations

import string
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.kernel.errors import InvalidInput
from apps.registry.domain.filters import (
    MODEL_ATTRIBUTES,
    VERSION_ATTRIBUTES,
    VERSION_ORDERS,
    Clause,
    Order,
    parse_filter,
    parse_order,
)


def one(text: str) -> Clause:
    (clause,) = parse_filter(text, VERSION_ATTRIBUTES)
    return clause


@pytest.mark.parametrize(
    ("text", "clause"),
    [
        ("name = 'a'", Clause("name", False, "=", "a")),
        ('name="a b"', Clause("name", False, "=", "a b")),
        ("attribute.name like '%a_'", Clause("name", False, "LIKE", "%a_")),
        ("run_id IN ('a', 'b')", Clause("run_id", False, "IN", ("a", "b"))),
        ("name not  in ('a')", Clause("name", False, "NOT IN", ("a",))),
        ("version_number >= 3", Clause("version_number", False, ">=", 3)),
        ("version_number = '3'", Clause("version_number", False, "=", 3)),
        ("tags.k != 'v'", Clause("k", True, "!=", "v")),
        ("tag.`mlflow.prompt.is_prompt` != 'true'", Clause("mlflow.prompt.is_prompt", True, "!=", "true")),
        ("tags.\"a b\" ILIKE 'V'", Clause("a b", True, "ILIKE", "V")),
        ("tags.a.b = 'it''s'", Clause("a.b", True, "=", "it's")),
        ("source_path = 'AND'", Clause("source_path", False, "=", "AND")),
    ],
)
def test_a_clause_is_read(text: str, clause: Clause) -> None:
    assert one(text) == clause


def test_clauses_are_joined_by_and() -> None:
    found = parse_filter("name = 'a' and tags.k = 'x' AND name LIKE 'b'", MODEL_ATTRIBUTES)
    assert [clause.comparator for clause in found] == ["=", "=", "LIKE"]
    assert parse_filter("  ", MODEL_ATTRIBUTES) == ()


@pytest.mark.parametrize(
    "text",
    [
        *("name", "name =", "= 'a'", "name = a", "name = 'a", "name = 'a' OR name = 'b'", "name = 'a' name = 'b'"),
        *("(name = 'a')", "name = 'a' AND", "AND name = 'a'", "name > 'a'", "nome = 'a'", "params.k = 'a'"),
        *("tags.k IN ('a')", "tags.k > 'a'", "tags.k = 3", "tags. = 'a'", "version_number = 1.5", "name IN 'a'"),
        *("version_number = 'x'", "version_number LIKE '1'", "name IN ()", "name IN ('a',)", "name IN ('a'"),
        *("source_path IN ('a')", "name = 'a'; SELECT 1", "name <> 'a'", "name = 'a' -- x"),
        "version_number = " + "9" * 40,
        "name = '" + "a" * 10_001 + "'",
        " AND ".join(["name = 'a'"] * 51),
    ],
)
def test_anything_else_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_filter(text, VERSION_ATTRIBUTES)
    assert refused.value.fields[0].pointer == "/filter"


@given(st.text(alphabet=string.printable, max_size=60))
def test_every_text_is_read_or_refused(text: str) -> None:
    with suppress(InvalidInput):
        assert isinstance(parse_filter(text, VERSION_ATTRIBUTES), tuple)


@given(st.text(max_size=40))
def test_a_quoted_value_comes_out_as_it_went_in(value: str) -> None:
    quoted = value.replace("'", "''")
    assert one(f"name = '{quoted}'").value == value


def test_orders_are_read_and_bad_ones_refused() -> None:
    assert parse_order(["name DESC", "version_number"], VERSION_ORDERS) == (
        Order("name", False),
        Order("version_number", True),
    )
    assert parse_order(["timestamp asc"], VERSION_ORDERS) == (Order("last_updated_timestamp", True),)
    for wrong in (["size"], ["name UP"], ["name ASC x"], [""], ["name", "name DESC"]):
        with pytest.raises(InvalidInput):
            parse_order(wrong, VERSION_ORDERS)
