from __future__ import annotations

import math

import pytest

from apps.kernel.canonical import canonical_json, sha256_of


def test_order_and_spaces_do_not_matter() -> None:
    assert canonical_json({"b": [1, 2.5], "a": None}) == '{"a":null,"b":[1,2.5]}'
    assert sha256_of({"a": 1, "b": 2}) == sha256_of({"b": 2, "a": 1})


def test_text_beyond_ascii_has_one_spelling() -> None:
    assert canonical_json("é") == '"\\u00e9"'


def test_the_hash_of_a_known_value_never_changes() -> None:
    assert sha256_of({}) == "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


@pytest.mark.parametrize("value", [math.nan, math.inf, [-math.inf]])
def test_what_json_cannot_say_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(value)


def test_objects_are_refused() -> None:
    with pytest.raises(TypeError):
        canonical_json(object())
