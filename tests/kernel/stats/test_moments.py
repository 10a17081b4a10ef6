"""Sufficient statistics: merge laws, digits that survive values near 1e9, and refusals by name."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.kernel.stats.moments import Moments, merge_all

NUMBERS = st.floats(-1e6, 1e6).map(lambda x: round(x, 6))
ROWS = st.lists(st.tuples(NUMBERS, NUMBERS), max_size=30)
GROUPS = ROWS.map(lambda rows: Moments.of([a for a, _ in rows], [b for _, b in rows]))


def same(a: Moments, b: Moments) -> bool:
    return bool(np.array_equal(a.n, b.n) and np.array_equal(a.sums, b.sums) and np.array_equal(a.centred, b.centred))


def close(a: Moments, b: Moments) -> bool:
    scale = 1.0 + np.abs(a.sums).max(initial=0.0)
    return bool(
        np.array_equal(a.n, b.n)
        and np.allclose(a.sums, b.sums, rtol=1e-12, atol=1e-12 * scale)
        and np.allclose(a.centred, b.centred, rtol=1e-9, atol=1e-9 * scale * scale)
    )


@given(GROUPS, GROUPS)
def test_adding_is_commutative_to_the_last_bit(a: Moments, b: Moments) -> None:
    assert same(a + b, b + a)


@given(GROUPS, GROUPS, GROUPS)
def test_adding_is_associative_to_rounding(a: Moments, b: Moments, c: Moments) -> None:
    assert close((a + b) + c, a + (b + c))


@given(GROUPS)
def test_nothing_is_neutral(a: Moments) -> None:
    assert same(a + Moments.empty((), 2), a)
    assert same(Moments.empty((), 2) + a, a)


@given(ROWS, ROWS)
def test_merged_halves_are_the_whole(first: list[tuple[float, float]], second: list[tuple[float, float]]) -> None:
    halves = [Moments.of([a for a, _ in rows], [b for _, b in rows]) for rows in (first, second)]
    whole = Moments.of([a for a, _ in first + second], [b for _, b in first + second])
    assert close(halves[0] + halves[1], whole)


@given(st.lists(GROUPS, min_size=1, max_size=6), st.randoms())
def test_merging_many_in_any_order_changes_no_bit(parts: list[Moments], random) -> None:  # type: ignore[no-untyped-def]
    shuffled = list(parts)
    random.shuffle(shuffled)
    assert same(merge_all(parts), merge_all(shuffled))


@given(st.lists(GROUPS, min_size=1, max_size=6))
def test_merging_many_equals_adding_one_by_one(parts: list[Moments]) -> None:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    assert close(merge_all(parts), total)


def test_moments_are_those_of_numpy() -> None:
    random = np.random.default_rng(1)
    x, y = random.normal(3, 2, 500), random.lognormal(size=500)
    moments = Moments.of(x, y)
    assert moments.mean == pytest.approx([x.mean(), y.mean()], rel=1e-13)
    assert moments.covariance == pytest.approx(np.cov(x, y), rel=1e-12)
    assert moments.select(1, 0).covariance == pytest.approx(np.cov(y, x), rel=1e-12)


def test_groups_in_one_pass_are_the_groups_one_by_one() -> None:
    random = np.random.default_rng(2)
    group, x, y = random.integers(0, 7, 3000), random.normal(1e9, 1, 3000), random.normal(size=3000)
    together = Moments.by_group(group, 9, x, y)
    for g in range(9):
        assert close(together[g], Moments.of(x[group == g], y[group == g]))
    assert together.n[7] == together.n[8] == 0


def test_values_near_a_billion_keep_their_spread() -> None:
    random = np.random.default_rng(3)
    small = random.normal(0, 1, 1000)
    shifted = Moments.of(small[:500] + 1e9) + Moments.of(small[500:] + 1e9)
    # The values themselves carry 1e-7; raw squares would have left nothing of the variance.
    assert shifted.covariance[0, 0] == pytest.approx(small.var(ddof=1), rel=1e-6)


def test_counts_are_a_zero_one_variable() -> None:
    flags = np.r_[np.ones(30), np.zeros(970)]
    assert close(Moments.from_counts(30, 1000), Moments.of(flags))
    many = Moments.from_counts([[0, 5], [10, 3]], 10)
    assert many.shape == (2, 2)
    assert many.centred[0, 0, 0, 0] == many.centred[1, 0, 0, 0] == 0.0


def test_groups_are_picked_by_number_list_array_or_mask() -> None:
    groups = Moments.from_counts([1, 2, 3], 10)
    assert groups[1].sums.tolist() == [2.0]
    for index in ([2, 0], np.array([2, 0])):
        assert groups[index].sums[:, 0].tolist() == [3.0, 1.0]
    assert groups[np.array([True, False, True])].shape == (2,)
    with pytest.raises(IndexError, match="ellipsis"):
        groups[..., 0]


def test_axes_merge_together_or_apart() -> None:
    random = np.random.default_rng(4)
    cells = Moments.by_group(np.arange(2400) % 24, 24, random.normal(size=2400), random.normal(size=2400))
    cube = Moments(cells.n.reshape(2, 3, 4), cells.sums.reshape(2, 3, 4, 2), cells.centred.reshape(2, 3, 4, 2, 2))
    assert cube.merged((1, 2)).shape == (2,)
    assert close(cube.merged((1, 2)), cube.merged(2).merged(1))
    assert close(cube.merged((0, 1, 2)), cells.merged())


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: Moments.of([1.0, float("nan")]), "column 0"),
        (lambda: Moments.of([1.0], [1.0, 2.0]), "columns"),
        (Moments.of, "columns"),
        (lambda: Moments.by_group([0, 5], 3, [1.0, 2.0]), "groups"),
        (lambda: Moments.by_group([0.5, 1.0], 3, [1.0, 2.0]), "groups"),
        (lambda: Moments.from_counts(5, 4), "successes"),
        (lambda: Moments.from_counts(-1, 4), "successes"),
        (lambda: Moments.from_counts(1.5, 4), "successes"),
        (lambda: Moments.from_parts(-1, [0.0], [[0.0]]), "n must"),
        (lambda: Moments.from_parts(2, [0.0], [[-1.0]]), "centred"),
        (lambda: Moments.from_parts(2, [0.0, 1.0], [[1.0]]), "sums"),
        (lambda: Moments.empty((), 1) + Moments.empty((), 2), "variables"),
        (lambda: merge_all([]), "parts"),
    ],
)
def test_impossible_input_is_refused_by_name(call, names) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=names):
        call()
