"""Who shares a major version can stand in for each other; the differing column is named."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.kernel.errors import PolicyRefused
from apps.registry.domain.compatibility import check_semver
from apps.registry.domain.semver import Semver
from apps.registry.domain.signature import Signature, What, breaking_differences


def one_input(kind: str = "double", *, required: bool = True, **constraint: Any) -> Signature:
    return Signature.of(
        {"inputs": [{"name": "x", "type": kind, "required": required}], "outputs": [{"name": "y", "type": "long"}]},
        {"x": constraint} if constraint else {},
    )


def outputs(*pairs: tuple[str, str]) -> Signature:
    return Signature.of({"inputs": [], "outputs": [{"name": name, "type": kind} for name, kind in pairs]}, {})


NOTHING = Signature.of({"inputs": [], "outputs": [{"name": "y", "type": "long"}]}, {})


@pytest.mark.parametrize(
    ("before", "after", "what", "sentence"),
    [
        (NOTHING, one_input(), What.NEW_REQUIRED, "Input 'x' (double) is new and required."),
        (one_input(required=False), one_input(), What.NOW_REQUIRED, "Input 'x' was optional and is now required."),
        (one_input("double"), one_input("long"), What.TYPE, "Input 'x' was double and is now long."),
        (one_input("long"), one_input("string"), What.TYPE, "Input 'x' was long and is now string."),
        (one_input("boolean"), one_input("long"), What.TYPE, "Input 'x' was boolean and is now long."),
        (one_input(nullable=True), one_input(), What.CONSTRAINT, "Input 'x' allowed null and now allows no null."),
        (one_input(), one_input(min=0), What.CONSTRAINT, "Input 'x' allowed any double and now allows at least 0."),
        (
            one_input(min=0, max=10),
            one_input(min=0, max=9),
            What.CONSTRAINT,
            "Input 'x' allowed 0 to 10 and now allows 0 to 9.",
        ),
        (
            one_input("string", values=["AA", "UA"]),
            one_input("string", values=["AA", "DL"]),
            What.CONSTRAINT,
            "Input 'x' allowed UA and now allows DL.",
        ),
        (
            one_input("string"),
            one_input("string", values=["AA"]),
            What.CONSTRAINT,
            "Input 'x' allowed any string and now allows AA.",
        ),
        (one_input("long", values=[1, 20]), one_input("long", max=10), What.CONSTRAINT, "now allows at most 10."),
        (outputs(("a", "long")), outputs(("a", "double")), What.OUTPUT_TYPE, "Output 'a' was long and is now double."),
        (outputs(("", "long")), outputs(("", "double")), What.OUTPUT_TYPE, "Output '#0' was long and is now double."),
        (
            outputs(("a", "long"), ("b", "long")),
            outputs(("a", "long")),
            What.OUTPUT_REMOVED,
            "Output 'b' (long) is gone.",
        ),
        (outputs(("a", "long")), outputs(("a", "long"), ("b", "long")), What.OUTPUT_ADDED, "Output 'b' (long) is new."),
    ],
)
def test_a_break_is_found_and_said_in_a_sentence(
    before: Signature, after: Signature, what: What, sentence: str
) -> None:
    (found,) = breaking_differences(before, after)
    assert found.what is what
    assert sentence in str(found)
    assert found.as_dict()["detail"] == str(found)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (one_input(), one_input()),
        (one_input(), NOTHING),
        (NOTHING, one_input(required=False)),
        (one_input(), one_input(required=False)),
        (one_input("integer"), one_input("double")),
        (one_input("integer"), one_input("long", min=-(2**31), max=2**31 - 1)),
        (one_input("float"), one_input("double")),
        (one_input(min=0, max=9), one_input(min=-1, max=10)),
        (one_input(), one_input(nullable=True)),
        (one_input("string", values=["AA"]), one_input("string", values=["DL", "AA"])),
        (one_input("string", values=["AA"]), one_input("string")),
        (one_input("long", values=[1, 5]), one_input("long", min=0, max=10)),
        (outputs(("a", "long"), ("b", "double")), outputs(("b", "double"), ("a", "long"))),
    ],
)
def test_what_callers_cannot_notice_is_no_break(before: Signature, after: Signature) -> None:
    assert breaking_differences(before, after) == []


kinds = st.sampled_from(["integer", "long", "float", "double", "string", "boolean"])
numbers = st.none() | st.integers(-5, 5)
inputs = st.builds(
    lambda kind, required, nullable, low, high: one_input(
        kind, required=required, nullable=nullable, min=low, max=high
    ),
    kinds,
    st.booleans(),
    st.booleans(),
    numbers,
    numbers,
)


@given(inputs)
def test_every_signature_is_a_drop_in_for_itself(signature: Signature) -> None:
    assert breaking_differences(signature, signature) == []


@given(inputs, inputs, inputs)
def test_a_drop_in_of_a_drop_in_is_a_drop_in(one: Signature, two: Signature, three: Signature) -> None:
    if not breaking_differences(one, two) and not breaking_differences(two, three):
        assert breaking_differences(one, three) == []


WIDE, NARROW = one_input(), one_input(min=0)


def known(**versions: Signature) -> dict[Semver, Signature]:
    return {Semver.parse(text[1:].replace("_", ".")): signature for text, signature in versions.items()}


def test_a_break_within_a_major_version_is_refused_with_the_field_and_the_way_out() -> None:
    with pytest.raises(PolicyRefused) as refused:
        check_semver(known(v1_0_0=WIDE, v1_1_0=WIDE), Semver(1, 2, 0), NARROW)
    assert refused.value.code == "major_bump_required"
    assert [field.pointer for field in refused.value.fields] == ["/signature/inputs/x"]
    assert "callers of 1.1.0" in refused.value.detail
    assert "2.0.0" in refused.value.detail
    assert refused.value.extra["differences"][0]["column"] == "x"


def test_a_new_major_version_may_break() -> None:
    check_semver(known(v1_0_0=WIDE), Semver(2, 0, 0), NARROW)


def test_the_first_version_may_be_anything() -> None:
    check_semver({}, Semver(0, 3, 1), NARROW)


def test_a_patch_to_an_older_line_must_not_set_a_trap_for_its_callers_next_upgrade() -> None:
    with pytest.raises(PolicyRefused, match="its callers at"):
        check_semver(known(v1_0_0=NARROW, v1_1_0=NARROW, v2_0_0=WIDE), Semver(1, 0, 1), WIDE)
