from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.histogram import Histogram, bucket_index


@pytest.mark.parametrize("exponent", range(-29, 12))
def test_a_power_of_two_is_the_upper_bound_of_its_bucket(exponent: int) -> None:
    power = 2.0**exponent
    assert bucket_index(power) == exponent * 64
    assert bucket_index(math.nextafter(power, math.inf)) == exponent * 64 + 1
    assert bucket_index(math.nextafter(power, 0)) == exponent * 64


def test_half_a_second_has_index_minus_64() -> None:
    assert bucket_index(0.5) == -64


@given(st.floats(min_value=1e-8, max_value=1e6))
def test_a_value_lies_in_its_bucket(seconds: float) -> None:
    index = bucket_index(seconds)
    assert 2.0 ** ((index - 1) / 64) * (1 - 1e-12) < seconds <= 2.0 ** (index / 64) * (1 + 1e-12)


@given(st.lists(st.floats(min_value=0, max_value=100)))
def test_every_value_is_counted_once(values: list[float]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    wire = histogram.as_json()
    assert histogram.total() == wire["zero"] + sum(wire["counts"]) == len(values)
    assert wire["zero"] == sum(value <= 1e-9 for value in values)
    assert wire["indexes"] == sorted(wire["indexes"])
    assert wire["sum"] == pytest.approx(math.fsum(values))
    assert (wire["min"], wire["max"]) == (min(values, default=0), max(values, default=0))


@pytest.mark.parametrize("impossible", [-0.001, math.nan, math.inf])
def test_an_impossible_latency_is_refused(impossible: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        Histogram().add(impossible)
