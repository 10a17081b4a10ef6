"""The one histogram: bounds, merges that never change a bit, quantiles within their promise, blobs."""

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.kernel.stats.buckets import MAX_INDEX, MIN_INDEX, bucket_index, bucket_upper, relative_error
from apps.kernel.stats.histogram import ExponentialHistogram, merge_blobs, merge_many

SECONDS = st.lists(st.one_of(st.floats(0, 2e-9), st.floats(1e-6, 100), st.floats(0, 2.0**33)), max_size=60)
HISTOGRAMS = SECONDS.map(ExponentialHistogram.from_values)


def nearest_rank(values: np.ndarray[Any, Any], q: float) -> float:
    rank = max(1, math.ceil(Fraction(str(q)) * values.size))
    return float(np.sort(values)[rank - 1])


def lognormal(n: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(7).lognormal(-3.0, 0.8, n)


def bimodal(n: int) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(8)
    return np.where(rng.random(n) < 0.93, rng.lognormal(-4.0, 0.3, n), rng.lognormal(-0.5, 0.1, n))


def ties_at_a_timeout(n: int) -> np.ndarray[Any, Any]:
    return np.where(np.random.default_rng(9).random(n) < 0.9, lognormal(n), 1.0)


# -- bounds


def test_every_power_of_the_base_lands_in_its_own_bucket_whoever_computed_it() -> None:
    indexes = np.arange(-1000, 1001)
    for powers in (
        np.array([2 ** (int(i) / 64) for i in indexes]),
        2.0 ** (indexes / 64),
        np.exp2(indexes / 64),
    ):
        np.testing.assert_array_equal(bucket_index(powers), indexes)


def test_bounds_are_inclusive_above_and_exclusive_below_to_the_last_bit() -> None:
    for index in range(-1000, 1001):
        upper = bucket_upper(index)
        assert bucket_index(upper) == index
        assert bucket_index(math.nextafter(upper, math.inf)) == index + 1
        assert upper == 2 ** (index / 64)


def test_half_a_second_is_the_bound_of_bucket_minus_64() -> None:
    assert bucket_index(0.5) == -64
    assert bucket_upper(-64) == 0.5
    assert bucket_index([1.0, 2.0, 0.25, 1e-9]).tolist() == [0, 64, -128, -1913]


@given(st.floats(1.0000001e-9, 2.0**33))
def test_a_value_lies_within_the_bounds_of_its_bucket(value: float) -> None:
    index = int(bucket_index(value))
    assert bucket_upper(index - 1) < value <= bucket_upper(index)
    assert MIN_INDEX <= index <= MAX_INDEX


def test_coarser_schemas_have_every_other_bound() -> None:
    assert bucket_upper(-32, schema=5) == bucket_upper(-64)
    assert bucket_upper(-1, schema=0) == 0.5
    assert relative_error() == pytest.approx(0.00543, abs=1e-5)
    assert relative_error(5) == pytest.approx(0.0109, abs=1e-4)


# -- counting


def test_values_are_counted_summed_and_bounded() -> None:
    histogram = ExponentialHistogram.from_values([0.0, 1e-9, 0.5, 0.5, 2.0])
    assert histogram.indexes.tolist() == [-64, 64]
    assert histogram.counts.tolist() == [2, 1]
    assert (histogram.zero, histogram.total, histogram.sum_ns) == (2, 5, 3_000_000_001)
    assert (histogram.minimum, histogram.maximum) == (0.0, 2.0)
    assert histogram.mean == pytest.approx(0.6000000002)


def test_an_empty_histogram_has_no_quantile_and_no_mean() -> None:
    empty = ExponentialHistogram.from_values([])
    assert empty == ExponentialHistogram.empty()
    assert (empty.total, empty.quantile(0.5), empty.mean, empty.minimum) == (0, None, None, None)
    assert empty.count_over(0.5) == (0, 0)


def test_the_sum_of_the_largest_values_does_not_overflow() -> None:
    assert ExponentialHistogram.from_values([2.0**33] * 5).sum_ns == 5 * 2**33 * 10**9


@pytest.mark.parametrize("bad", [math.nan, math.inf, -0.1, 2.0**33 * 1.01])
def test_values_that_are_no_durations_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="values"):
        ExponentialHistogram.from_values([0.1, bad, 0.2])


def test_a_histogram_cannot_be_changed_after_the_fact() -> None:
    histogram = ExponentialHistogram.from_values([0.5])
    with pytest.raises(ValueError, match="read-only"):
        histogram.counts[0] = 7


# -- merging


@given(st.lists(SECONDS, max_size=5))
def test_merging_parts_is_the_histogram_of_everything_bit_for_bit(parts: list[list[float]]) -> None:
    whole = ExponentialHistogram.from_values(list(itertools.chain(*parts)))
    assert merge_many(ExponentialHistogram.from_values(part) for part in parts) == whole


@given(HISTOGRAMS, HISTOGRAMS, HISTOGRAMS, st.integers(0, 6), st.integers(0, 6))
def test_merge_is_associative_and_free_of_order_across_schemas(
    a: ExponentialHistogram, b: ExponentialHistogram, c: ExponentialHistogram, schema_b: int, schema_c: int
) -> None:
    b, c = b.downscale(schema_b), c.downscale(schema_c)
    whole = a.merge(b, c)
    for left in (a.merge(b).merge(c), a.merge(b.merge(c)), c.merge(a, b), b.merge(c).merge(a)):
        assert left == whole
        assert hash(left) == hash(whole)


@given(HISTOGRAMS, st.integers(0, 6), st.integers(0, 6))
def test_halving_twice_is_halving_once_further(histogram: ExponentialHistogram, one: int, two: int) -> None:
    high, low = max(one, two), min(one, two)
    coarse = histogram.downscale(high).downscale(low)
    assert coarse == histogram.downscale(low)
    assert coarse.total == histogram.total


def test_halving_puts_every_value_into_the_bucket_that_holds_it() -> None:
    for value in (0.5, math.nextafter(0.5, 1), 0.013, 1.0, 77.0):
        coarse = ExponentialHistogram.from_values([value]).downscale(3)
        index = int(coarse.indexes[0])
        assert bucket_upper(index - 1, 3) < value <= bucket_upper(index, 3)


def test_resolution_cannot_be_won_back() -> None:
    with pytest.raises(ValueError, match="schema"):
        ExponentialHistogram.empty(4).downscale(5)


# -- quantiles


@pytest.mark.parametrize("draw", [lognormal, bimodal, ties_at_a_timeout])
@pytest.mark.parametrize("n", [1, 7, 200, 20_000])
@pytest.mark.parametrize("q", [0.0, 0.07, 0.5, 0.95, 0.99, 0.999, 1.0])
def test_quantiles_keep_their_promise_against_the_exact_nearest_rank(draw: Any, n: int, q: float) -> None:
    values = draw(n)
    found = ExponentialHistogram.from_values(values).quantile(q)
    assert found is not None
    exact = nearest_rank(values, q)
    assert found.lower <= exact <= found.upper
    assert abs(found.midpoint / exact - 1) <= relative_error() + 1e-12
    assert found.lower <= found.value <= found.upper
    assert abs(found.value / exact - 1) <= 2 ** (1 / 64) - 1 + 1e-12


def test_interpolation_is_much_closer_than_the_bound_on_smooth_data() -> None:
    values = lognormal(200_000)
    histogram = ExponentialHistogram.from_values(values)
    for q in (0.5, 0.95, 0.99):
        found = histogram.quantile(q)
        assert found is not None
        assert found.value == pytest.approx(nearest_rank(values, q), rel=0.001)


def test_rank_is_computed_from_the_decimal_not_the_float() -> None:
    """In floats 0.07 * 100 is 7.000000000000001, which would be rank 8."""
    found = ExponentialHistogram.from_values(np.arange(1, 101) / 10).quantile(0.07)
    assert found is not None
    assert found.lower < 0.7 <= found.upper


def test_a_single_value_is_its_own_quantile_exactly() -> None:
    found = ExponentialHistogram.from_values([0.123]).quantile(0.5)
    assert found is not None
    assert (found.value, found.midpoint, found.lower, found.upper) == (0.123, 0.123, 0.123, 0.123)


def test_a_rank_among_the_zeros_is_bounded_by_the_zero_threshold() -> None:
    found = ExponentialHistogram.from_values([0.0, 0.0, 0.0, 1.0]).quantile(0.5)
    assert found is not None
    assert (found.value, found.lower, found.upper) == (0.0, 0.0, 1e-9)


def test_a_source_whose_minimum_contradicts_its_buckets_cannot_turn_bounds_round() -> None:
    """The example of the ingest contract: minimum .031 and maximum .061 lie outside buckets -301 and -300."""
    histogram = ExponentialHistogram.from_parts(
        zero=0, indexes=[-301, -300], counts=[100, 107], sum_seconds=8.21, minimum=0.5, maximum=0.61
    )
    found = histogram.quantile(0.5)
    assert found is not None
    assert found.lower <= found.value <= found.upper == pytest.approx(2 ** (-300 / 64))
    assert (histogram.sum_ns, histogram.total) == (8_210_000_000, 207)


@pytest.mark.parametrize("q", [-0.1, 1.1, math.nan])
def test_a_quantile_outside_zero_to_one_is_refused(q: float) -> None:
    with pytest.raises(ValueError, match="q must"):
        ExponentialHistogram.from_values([1.0]).quantile(q)


# -- counting over a limit


@given(SECONDS, st.one_of(st.floats(0, 2.0**34), st.sampled_from([0.0, 1e-9, 0.5, 1.0])), st.integers(0, 6))
def test_the_true_count_over_a_limit_lies_between_surely_and_possibly(
    values: list[float], limit: float, schema: int
) -> None:
    surely, possibly = ExponentialHistogram.from_values(values).downscale(schema).count_over(limit)
    assert surely <= sum(value > limit for value in values) <= possibly


def test_over_half_a_second_is_known_exactly() -> None:
    values = [0.4, 0.5, math.nextafter(0.5, 1), 0.6]
    assert ExponentialHistogram.from_values(values).count_over(0.5) == (2, 2)
    assert ExponentialHistogram.from_values(values).downscale(0).count_over(0.5) == (2, 2)
    assert ExponentialHistogram.from_values([0.3, 0.3]).count_over(0.3) == (0, 2)


def test_a_negative_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="limit"):
        ExponentialHistogram.empty().count_over(-1.0)


# -- blobs


@given(HISTOGRAMS, st.integers(0, 6))
def test_blobs_bring_back_every_bit(histogram: ExponentialHistogram, schema: int) -> None:
    histogram = histogram.downscale(schema)
    offsets, counts, zero, sum_ns, minimum, maximum = histogram.to_row()
    back = ExponentialHistogram.from_blobs(
        offsets, counts, zero=zero, sum_ns=sum_ns, minimum=minimum, maximum=maximum, schema=schema
    )
    assert back == histogram


def test_the_blob_layout_is_pinned() -> None:
    """Stored for months: index + 2048 as uint16, counts as uint32, little-endian."""
    offsets, counts = ExponentialHistogram.from_values([0.5, 0.5, 2.0]).to_blobs()
    assert offsets.hex() == "c0074008"
    assert counts.hex() == "0200000001000000"


@given(st.lists(HISTOGRAMS, max_size=6))
def test_merging_blobs_is_merging_histograms(parts: list[ExponentialHistogram]) -> None:
    assert merge_blobs([part.to_row() for part in parts]) == merge_many(parts)


def test_merging_blobs_stays_exact_across_chunks_of_the_largest_counts() -> None:
    largest = ExponentialHistogram.from_parts(zero=1, indexes=range(-600, 0), counts=[0xFFFFFFFF] * 600, sum_ns=1)
    merged = merge_blobs([largest.to_row()] * 4000)
    assert set(merged.counts.tolist()) == {4000 * 0xFFFFFFFF}
    assert (merged.zero, merged.sum_ns) == (4000, 4000)


def test_a_bucket_too_full_for_a_blob_is_refused() -> None:
    full = ExponentialHistogram.from_parts(zero=0, indexes=[0], counts=[2**32])
    with pytest.raises(ValueError, match="counts"):
        full.to_blobs()


def test_damaged_blobs_are_refused_and_the_row_is_named() -> None:
    good = ExponentialHistogram.from_values([0.5, 2.0]).to_row()
    with pytest.raises(ValueError, match="offsets"):
        ExponentialHistogram.from_blobs(good.offsets, good.counts[:-4])
    with pytest.raises(ValueError, match="increase"):
        ExponentialHistogram.from_blobs(good.offsets[:2] * 2, good.counts)
    one_short, one_long = good._replace(counts=good.counts[:4]), good._replace(counts=good.counts + b"\1\0\0\0")
    with pytest.raises(ValueError, match="row 1"):
        merge_blobs([good, one_short, one_long])
    with pytest.raises(ValueError, match="offsets holds 65535"):
        merge_blobs([good._replace(offsets=b"\xff\xff\x00\x00")])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"zero": -1}, "zero"),
        ({"indexes": [3, 2]}, "indexes"),
        ({"indexes": [2, 2]}, "indexes"),
        ({"indexes": [-2049, 0]}, "indexes"),
        ({"indexes": [0, 2113]}, "indexes"),
        ({"indexes": [0.5, 1.0]}, "indexes"),
        ({"indexes": [[0, 1]]}, "indexes"),
        ({"counts": [1]}, "counts"),
        ({"counts": [1, -1]}, "counts"),
        ({"counts": [1, 2**60]}, "counts"),
        ({"counts": [1, 2**70]}, "counts"),
        ({"counts": ["1", "2"]}, "counts"),
        ({"sum_seconds": math.nan}, "sum"),
        ({"sum_seconds": -1.0}, "sum"),
        ({"minimum": -1.0}, "minimum"),
        ({"maximum": math.inf}, "maximum"),
        ({"minimum": 2.0, "maximum": 1.0}, "minimum"),
        ({"schema": 7}, "schema"),
    ],
)
def test_parts_from_outside_are_refused_by_field(change: dict[str, Any], named: str) -> None:
    parts: dict[str, Any] = {"zero": 0, "indexes": [0, 1], "counts": [1, 2], **change}
    with pytest.raises(ValueError, match=named):
        ExponentialHistogram.from_parts(**parts)


def test_buckets_without_a_count_are_dropped() -> None:
    assert ExponentialHistogram.from_parts(zero=0, indexes=[1, 2, 3], counts=[4, 0, 5]).indexes.tolist() == [1, 3]


def test_numpy_counts_from_a_caller_stay_writable_for_the_caller() -> None:
    counts = np.array([1, 2], np.int64)
    ExponentialHistogram.from_parts(zero=0, indexes=np.array([0, 1], np.int32), counts=counts)
    counts[0] = 5
    assert counts[0] == 5
