"""The product's one histogram: exponential buckets, schema 6, merged by addition of integers.

Everything a merge adds is an integer (counts, and the sum in whole nanoseconds), everything else is min or max, so a
merge is associative and order-free bit for bit: an hour recomputed months later from its slots has the same numbers.
Values are seconds. See buckets.py for the bounds and their float handling.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from .buckets import (
    MAX_INDEX,
    MAX_VALUE,
    MIN_INDEX,
    SCHEMA,
    ZERO_THRESHOLD,
    bucket_index,
    bucket_upper,
    relative_error,
)

MIN_SCHEMA = 0
BLOB_BASE = MIN_INDEX
"""A blob stores index - BLOB_BASE as uint16 little-endian: 0..4160 at every schema."""
_NANOSECONDS = 1_000_000_000
_MAX_COUNT = 1 << 48  # all 4,161 buckets together stay below 2^63
# bincount casts to int64 and float64: pieces that stay in the cache halve its time. It adds in float64, which is exact
# below 2^53: 2^16 counts of less than 2^32 stay under 2^48.
_CHUNK = 1 << 16


class BlobRow(NamedTuple):
    """One stored window, in the column order `merge_blobs` reads; a plain tuple of values_list will do."""

    offsets: bytes
    counts: bytes
    zero: int
    sum_ns: int
    minimum: float | None
    maximum: float | None


@dataclass(frozen=True, slots=True)
class QuantileEstimate:
    """A nearest-rank quantile in seconds, with the interval that surely holds it.

    value: interpolated on the log scale inside the bucket (typically within 0.1 %, at worst one bucket, 1.09 %).
    midpoint: geometric middle of the bucket, within relative_error (0.54 % at schema 6) of the exact nearest rank.
    lower, upper: bounds of the bucket, drawn in by the smallest and largest value seen.
    """

    q: float
    value: float
    midpoint: float
    lower: float
    upper: float
    relative_error: float


class CountOver(NamedTuple):
    """How many values exceed a limit: at least `surely`, at most `possibly`; equal where the limit is a bound."""

    surely: int
    possibly: int


@dataclass(frozen=True, slots=True, eq=False)
class ExponentialHistogram:
    """Immutable; build it with from_values, from_parts, from_blobs or a merge, which validate.

    indexes: int32, strictly increasing. counts: int64, same length, all > 0. zero: values <= 1e-9.
    sum_ns: sum in nanoseconds. minimum, maximum: None when empty (or unknown).
    """

    indexes: npt.NDArray[np.int32]
    counts: npt.NDArray[np.int64]
    zero: int = 0
    sum_ns: int = 0
    minimum: float | None = None
    maximum: float | None = None
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        self.indexes.setflags(write=False)
        self.counts.setflags(write=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ExponentialHistogram):
            return NotImplemented
        return (
            self._scalars() == other._scalars()
            and np.array_equal(self.indexes, other.indexes)
            and np.array_equal(self.counts, other.counts)
        )

    def __hash__(self) -> int:
        return hash((self._scalars(), self.indexes.tobytes(), self.counts.tobytes()))

    def _scalars(self) -> tuple[int, int, float | None, float | None, int]:
        return self.zero, self.sum_ns, self.minimum, self.maximum, self.schema

    @classmethod
    def empty(cls, schema: int = SCHEMA) -> Self:
        return cls(np.empty(0, np.int32), np.empty(0, np.int64), schema=_checked_schema(schema))

    @classmethod
    def from_values(cls, values: npt.ArrayLike) -> Self:
        """Count seconds; each is rounded to whole nanoseconds for the sum. ValueError on NaN, negative, > 2^33."""
        seconds = np.asarray(values, np.float64).ravel()
        if seconds.size == 0:
            return cls.empty()
        smallest, largest = float(seconds.min()), float(seconds.max())
        if not (smallest >= 0.0 and largest <= MAX_VALUE):  # written so that NaN fails
            raise ValueError(f"values must lie between 0 and 2^33 seconds, got {smallest} to {largest}")
        positive = seconds[seconds > ZERO_THRESHOLD]
        offsets = np.bincount(bucket_index(positive) - BLOB_BASE)
        used = np.flatnonzero(offsets)
        return cls(
            (used + BLOB_BASE).astype(np.int32),
            offsets[used].astype(np.int64),
            zero=int(seconds.size - positive.size),
            sum_ns=_exact_sum(np.rint(seconds * _NANOSECONDS).astype(np.int64)),
            minimum=smallest,
            maximum=largest,
        )

    @classmethod
    def from_parts(
        cls,
        *,
        zero: int,
        indexes: Sequence[int] | npt.NDArray[np.int32],
        counts: Sequence[int] | npt.NDArray[np.int64],
        sum_seconds: float | None = None,
        sum_ns: int = 0,
        minimum: float | None = None,
        maximum: float | None = None,
        schema: int = SCHEMA,
    ) -> Self:
        """Check and take numbers from outside (the ingest contract's `latency`); ValueError names the field.

        Indexes must increase strictly; buckets with count 0 are dropped. Give the sum as `sum_seconds` or `sum_ns`.
        Minimum and maximum are not held against the buckets: sources round them.
        """
        _checked_schema(schema)
        index_array, count_array = _integers("indexes", indexes), _integers("counts", counts)
        _check_buckets(index_array, count_array)
        if zero < 0:
            raise ValueError(f"zero must be a count of at least 0, got {zero}")
        if sum_seconds is not None:
            if not (math.isfinite(sum_seconds) and sum_seconds >= 0.0):
                raise ValueError(f"sum must be finite and not negative, got {sum_seconds}")
            sum_ns = round(Fraction(sum_seconds) * _NANOSECONDS)
        if sum_ns < 0:
            raise ValueError(f"sum_ns must not be negative, got {sum_ns}")
        _check_range(minimum, maximum)
        used = count_array > 0
        return cls(
            index_array[used].astype(np.int32), count_array[used], int(zero), int(sum_ns), minimum, maximum, schema
        )

    @property
    def total(self) -> int:
        return self.zero + int(self.counts.sum())

    @property
    def sum_seconds(self) -> float:
        return self.sum_ns / _NANOSECONDS

    @property
    def mean(self) -> float | None:
        """Mean in seconds; None without values."""
        total = self.total
        return self.sum_ns / (total * _NANOSECONDS) if total else None

    def merge(self, *others: "ExponentialHistogram") -> "ExponentialHistogram":
        """Sum of this and the others, at the coarsest of their schemas."""
        return merge_many((self, *others))

    def downscale(self, schema: int) -> "ExponentialHistogram":
        """Exact halving: every two buckets of schema s are one of schema s - 1. ValueError on a finer schema."""
        _checked_schema(schema)
        if schema > self.schema:
            raise ValueError(f"schema {schema} is finer than {self.schema}: resolution cannot be won back")
        if schema == self.schema:
            return self
        shift = self.schema - schema
        indexes, counts = _summed(-((-self.indexes) >> shift), self.counts)  # ceil(i / 2^shift)
        return ExponentialHistogram(indexes, counts, self.zero, self.sum_ns, self.minimum, self.maximum, schema)

    def quantile(self, q: float) -> QuantileEstimate | None:
        """Nearest rank: the ceil(q n)-th smallest value, q as the decimal it is written; None without values."""
        if not 0.0 <= q <= 1.0:
            raise ValueError(f"q must lie between 0 and 1, got {q}")
        total = self.total
        if total == 0:
            return None
        # In floats ceil(0.07 * 100) is 8: the rank is computed in fractions of the decimal.
        rank = max(1, math.ceil(Fraction(str(float(q))) * total))
        if rank <= self.zero:
            lower, upper = self._drawn_in(0.0, ZERO_THRESHOLD)
            return QuantileEstimate(q, lower, lower, lower, upper, relative_error(self.schema))
        below = np.cumsum(self.counts) + self.zero
        bucket = int(np.searchsorted(below, rank, side="left"))
        index, count = int(self.indexes[bucket]), int(self.counts[bucket])
        start, end = bucket_upper(index - 1, self.schema), bucket_upper(index, self.schema)
        lower, upper = self._drawn_in(start, end)
        part = (rank - (int(below[bucket]) - count) - 0.5) / count
        value, midpoint = (min(max(start * (end / start) ** x, lower), upper) for x in (part, 0.5))
        return QuantileEstimate(q, value, midpoint, lower, upper, relative_error(self.schema))

    def count_over(self, limit: float) -> CountOver:
        """Values > limit (seconds), from bucket bounds alone. 0.5 s is the bound of bucket -64: there both agree."""
        if not limit >= 0.0:
            raise ValueError(f"limit must not be negative, got {limit}")
        if limit >= MAX_VALUE:
            return CountOver(0, 0)
        if limit <= ZERO_THRESHOLD:
            positive = int(self.counts.sum())
            return CountOver(positive, positive + (self.zero if limit < ZERO_THRESHOLD else 0))
        # A value > limit is at least the next float: its bucket is the first that can hold one.
        at, after = (
            -((-int(bucket_index(value))) >> (SCHEMA - self.schema))
            for value in (limit, math.nextafter(limit, math.inf))
        )
        surely = self.counts[np.searchsorted(self.indexes, at, side="right") :].sum()
        possibly = self.counts[np.searchsorted(self.indexes, after, side="left") :].sum()
        return CountOver(int(surely), int(possibly))

    def to_blobs(self) -> tuple[bytes, bytes]:
        """(offsets, counts): uint16 index - BLOB_BASE and uint32 counts, little-endian. ValueError beyond 2^32 - 1."""
        if self.counts.size and int(self.counts.max()) > 0xFFFFFFFF:
            raise ValueError(f"counts holds {int(self.counts.max())} in one bucket, a blob holds at most 4294967295")
        return (self.indexes - BLOB_BASE).astype("<u2").tobytes(), self.counts.astype("<u4").tobytes()

    def to_row(self) -> BlobRow:
        return BlobRow(*self.to_blobs(), self.zero, self.sum_ns, self.minimum, self.maximum)

    @classmethod
    def from_blobs(
        cls,
        offsets: bytes,
        counts: bytes,
        *,
        zero: int = 0,
        sum_ns: int = 0,
        minimum: float | None = None,
        maximum: float | None = None,
        schema: int = SCHEMA,
    ) -> Self:
        """Inverse of to_blobs; ValueError naming the field when the blobs are damaged."""
        if len(offsets) % 2 or len(counts) % 4 or len(counts) != 2 * len(offsets):
            raise ValueError(f"offsets of {len(offsets)} bytes and counts of {len(counts)} bytes do not fit together")
        return cls.from_parts(
            zero=zero,
            indexes=np.frombuffer(offsets, "<u2").astype(np.int32) + np.int32(BLOB_BASE),
            counts=np.frombuffer(counts, "<u4").astype(np.int64),
            sum_ns=sum_ns,
            minimum=minimum,
            maximum=maximum,
            schema=schema,
        )

    def _drawn_in(self, lower: float, upper: float) -> tuple[float, float]:
        """Bounds tightened by minimum and maximum, unless a source sent ones that contradict its buckets."""
        low = lower if self.minimum is None else max(lower, self.minimum)
        high = upper if self.maximum is None else min(upper, self.maximum)
        return (low, high) if low <= high else (lower, upper)


def merge_many(histograms: Iterable[ExponentialHistogram]) -> ExponentialHistogram:
    """Sum of any number of histograms in any order, at the coarsest schema among them; empty for none."""
    parts = list(histograms)
    if not parts:
        return ExponentialHistogram.empty()
    schema = min(part.schema for part in parts)
    parts = [part.downscale(schema) for part in parts]
    indexes, counts = _summed(np.concatenate([p.indexes for p in parts]), np.concatenate([p.counts for p in parts]))
    return ExponentialHistogram(
        indexes,
        counts,
        sum(p.zero for p in parts),
        sum(p.sum_ns for p in parts),
        min((p.minimum for p in parts if p.minimum is not None), default=None),
        max((p.maximum for p in parts if p.maximum is not None), default=None),
        schema,
    )


def merge_blobs(
    rows: Iterable[tuple[bytes, bytes, int, int, float | None, float | None]], schema: int = SCHEMA
) -> ExponentialHistogram:
    """Sum of stored windows (tuples in the order of BlobRow, all of one schema): join, then bincount in pieces of 2^16.

    10,000 windows take a few milliseconds. ValueError naming the field when blobs are damaged.
    """
    columns = list(zip(*rows, strict=True))
    if not columns:
        return ExponentialHistogram.empty(schema)
    offset_blobs, count_blobs, zeros, sums, minima, maxima = columns
    # Compared row by row: two damaged rows could make up for each other and shift every count between them.
    widths = np.fromiter(map(len, offset_blobs), np.int64), np.fromiter(map(len, count_blobs), np.int64)
    if not np.array_equal(2 * widths[0], widths[1]) or np.any(widths[0] % 2):
        row = int(np.argmax((2 * widths[0] != widths[1]) | (widths[0] % 2 != 0)))
        raise ValueError(f"offsets and counts of row {row} do not fit: {widths[0][row]} and {widths[1][row]} bytes")
    offsets = np.frombuffer(b"".join(offset_blobs), "<u2")
    counts = np.frombuffer(b"".join(count_blobs), "<u4")
    summed = np.zeros(MAX_INDEX - BLOB_BASE + 1, np.int64)
    if offsets.size and int(offsets.max()) >= summed.size:
        raise ValueError(f"offsets holds {int(offsets.max())}, the largest is {summed.size - 1}")
    for start in range(0, offsets.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        summed += np.bincount(offsets[part], counts[part], summed.size).astype(np.int64)
    used = np.flatnonzero(summed)
    return ExponentialHistogram(
        (used + BLOB_BASE).astype(np.int32),
        summed[used],
        int(sum(zeros)),
        int(sum(sums)),
        min((value for value in minima if value is not None), default=None),
        max((value for value in maxima if value is not None), default=None),
        _checked_schema(schema),
    )


def _summed(
    indexes: npt.NDArray[np.int32], counts: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Counts added up per index, in integers all the way; indexes come back sorted."""
    if indexes.size == 0:
        return indexes.astype(np.int32), counts.astype(np.int64)
    order = np.argsort(indexes, kind="stable")
    ordered = indexes[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    return ordered[starts].astype(np.int32), np.add.reduceat(counts[order], starts)


def _exact_sum(nanoseconds: npt.NDArray[np.int64]) -> int:
    """Sum without overflow: the halves are added apart (one 2^33 s is 8.6e18 ns, two of them leave int64)."""
    return (int((nanoseconds >> 32).sum()) << 32) + int((nanoseconds & 0xFFFFFFFF).sum())


def _integers(field: str, numbers: Sequence[int] | npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    array = np.asarray(numbers)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ValueError(f"{field} must be a flat list of integers")
    return array.astype(np.int64)


def _check_buckets(indexes: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> None:
    if indexes.size != counts.size:
        raise ValueError(f"counts has {counts.size} entries, indexes {indexes.size}")
    if indexes.size == 0:
        return
    if np.any(np.diff(indexes) <= 0):
        raise ValueError("indexes must increase strictly")
    if indexes[0] < MIN_INDEX or indexes[-1] > MAX_INDEX:
        raise ValueError(f"indexes must lie between {MIN_INDEX} and {MAX_INDEX}, got {indexes[0]} to {indexes[-1]}")
    if np.any(counts < 0):
        raise ValueError(f"counts must not be negative, got {int(counts.min())}")
    if int(counts.max()) > _MAX_COUNT:
        raise ValueError(f"counts must be at most 2^48 in a bucket, got {int(counts.max())}")


def _check_range(minimum: float | None, maximum: float | None) -> None:
    for field, value in (("minimum", minimum), ("maximum", maximum)):
        if value is not None and not 0.0 <= value <= MAX_VALUE:
            raise ValueError(f"{field} must lie between 0 and 2^33 seconds, got {value}")
    if minimum is not None and maximum is not None and minimum > maximum:
        raise ValueError(f"minimum {minimum} exceeds maximum {maximum}")


def _checked_schema(schema: int) -> int:
    if not MIN_SCHEMA <= schema <= SCHEMA:
        raise ValueError(f"schema must lie between {MIN_SCHEMA} and {SCHEMA}, got {schema}")
    return schema
