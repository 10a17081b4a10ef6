"""Assignment: vectors that may never change, growing coverage that moves nobody, uniform and independent arms."""

import hashlib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from apps.kernel.stats.assignment import LINE, arm_of, arm_ranges, arms_of, position
from apps.kernel.stats.srm import chi_square_p

HALVES = (("control", 5000), ("treatment", 5000))
VECTORS = {
    # printf 'checkout-2024\0user-1' | sha256sum | cut -c1-16
    ("checkout-2024", "user-1"): 0xE38FB827C21D3679,
    ("checkout-2024", "user-2"): 0xC7B5F6014A1AB84E,
    ("s", "é"): 0x0996BD57395B5BDB,
    ("s", "日本語"): 0x8DDD58B311AAB1B1,
    ("s", " "): 0x578A689217250145,
}


@pytest.mark.parametrize(("salt", "unit"), VECTORS)
def test_positions_never_change(salt: str, unit: str) -> None:
    assert position(salt, unit) == VECTORS[salt, unit]


def test_a_position_is_the_head_of_a_plain_sha256() -> None:
    digest = hashlib.sha256(b"checkout-2024" + b"\x00" + b"user-1").hexdigest()
    assert f"{position('checkout-2024', 'user-1'):016x}" == digest[:16]


def test_the_ends_of_the_line_belong_to_the_outer_arms() -> None:
    ranges = arm_ranges((("a", 3333), ("b", 3333), ("c", 3334)))
    assert ranges[0].start == 0
    assert ranges[-1].end == LINE
    assert all(left.end == right.start for left, right in pairwise(ranges))


@given(
    st.lists(st.integers(1, 5000), min_size=2, max_size=5).filter(lambda w: sum(w) < 10_000),
    st.integers(0, 10_000),
    st.integers(0, 10_000),
    st.lists(st.text(max_size=12).map(lambda text: "u" + text.replace("\0", "")), min_size=1, max_size=10),
)
def test_growing_coverage_never_moves_a_unit(weights: list[int], a: int, b: int, units: list[str]) -> None:
    rest = 10_000 - sum(weights)
    arms = [(f"arm{i}", w) for i, w in enumerate([*weights, rest])]
    less, more = arm_ranges(arms, min(a, b)), arm_ranges(arms, max(a, b))
    for unit in units:
        before = arm_of("salt", unit, less)
        assert before is None or before == arm_of("salt", unit, more)


def test_arms_are_as_large_as_their_weights() -> None:
    ranges = arm_ranges((("control", 9000), ("treatment", 1000)), 5000)
    arms = arms_of("uniform", (f"user-{i}" for i in range(40_000)), ranges)
    counts = np.bincount(arms + 1, minlength=3)
    assert float(chi_square_p(counts, [0.5, 0.45, 0.05])) > 0.001


def test_two_salts_are_independent() -> None:
    units = [f"user-{i}" for i in range(20_000)]
    first, second = (arms_of(salt, units, arm_ranges(HALVES)) for salt in ("one", "two"))
    table = np.array([[np.sum((first == i) & (second == j)) for j in range(2)] for i in range(2)])
    assert stats.chi2_contingency(table).pvalue > 0.001


def test_many_at_once_are_the_units_one_by_one() -> None:
    ranges = arm_ranges((("a", 2000), ("b", 8000)), 7000)
    units = [f"u{i}" for i in range(300)]
    assert [None if i < 0 else ranges[i].arm for i in arms_of("s", units, ranges)] == [
        arm_of("s", unit, ranges) for unit in units
    ]


def test_no_coverage_has_no_units() -> None:
    assert np.all(arms_of("s", [f"u{i}" for i in range(50)], arm_ranges(HALVES, 0)) == -1)


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: position("", "u"), "salt"),
        (lambda: position("a\0b", "u"), "salt"),
        (lambda: position("s", ""), "unit"),
        (lambda: arm_ranges((("a", 10_000), ("b", 0))), "weights_bp"),
        (lambda: arm_ranges((("a", 5000), ("b", 4000))), "weights_bp"),
        (lambda: arm_ranges((("a", 5000), ("a", 5000))), "weights_bp"),
        (lambda: arm_ranges(HALVES, 10_001), "coverage_bp"),
    ],
)
def test_impossible_input_is_refused_by_name(call, names) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=names):
        call()
