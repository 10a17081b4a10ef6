"""The sentence on why a version cannot stand in: every field that differs is named."""

from __future__ import annotations

from typing import Any

from apps.registry.domain.drop_in import breaks_sentence, ways_sentence
from apps.registry.domain.signature import Signature


def signature(constraints: dict[str, Any] | None = None, /, **inputs: str) -> Signature:
    columns = [{"name": name, "type": kind, "required": True} for name, kind in inputs.items()]
    return Signature.of({"inputs": columns, "outputs": [{"name": "", "type": "long"}]}, constraints or {})


def test_new_and_dropped_inputs_stand_in_one_sentence() -> None:
    before = signature(carrier="string", hour="long")
    after = signature(airline="string", visib="double", hour="long")
    assert breaks_sentence("1.0.0", "2.0.0", before, after) == (
        "2.0.0 cannot stand in for 1.0.0. Callers of 1.0.0 do not send 'airline' (string) and 'visib' (double), "
        "which it requires; it no longer reads 'carrier'."
    )


def test_other_differences_and_what_is_dropped_are_named_as_well() -> None:
    before, after = signature(carrier="string", hour="double"), signature({"hour": {"max": 23}}, hour="long")
    assert breaks_sentence("1.0.0", "2.0.0", before, after) == (
        "2.0.0 cannot stand in for 1.0.0. Input 'hour' was double and is now long. It no longer reads 'carrier'."
    )


def test_a_dropped_input_alone_breaks_nobody() -> None:
    assert breaks_sentence("1.0.0", "1.1.0", signature(carrier="string", hour="long"), signature(hour="long")) == ""


def test_the_ways_on_name_the_version() -> None:
    assert ways_sentence("2.0.0") == (
        "Register a version that takes today's calls, or give 2.0.0 an endpoint of its own."
    )
