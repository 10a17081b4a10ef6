"""Bucket arithmetic of the exponential histogram (Prometheus native histogram, OpenTelemetry scale = schema).

Bucket i of schema s covers (2^((i-1) / 2^s), 2^(i / 2^s)], so at schema 6 every bucket is 1.09 % wide and its geometric
midpoint is within 2^(1/128) - 1 = 0.54 % of every value in it. (OpenTelemetry counts from 0: its index is i - 1.)

Float handling. Except for powers of two the bounds are irrational; the bound *as a float* is the double nearest to
2^(i/64), from one table that all functions here share. Hence for every v, to the last bit:
bucket_upper(i - 1) < v <= bucket_upper(i) exactly when bucket_index(v) == i. Python's 2 ** (i / 64) equals these
doubles for every i in -1000..1000; numpy's power and exp2 miss 6 to 9 % of them by one unit in the last place,
downwards (numpy 2.4, x86-64), so they land in bucket i too. exp(i / 64 * log(2)) is off by up to 10 units: no bound.
"""

import math
from decimal import Decimal, localcontext

import numpy as np
import numpy.typing as npt

SCHEMA = 6
"""Resolution of the whole product: 64 buckets per doubling."""
ZERO_THRESHOLD = 1e-9
"""Values up to this (one nanosecond) are counted as zero."""
MIN_INDEX = -2048
"""2^-32; no value above the zero threshold lies lower (1e-9 is in bucket -1913)."""
MAX_INDEX = 2112
"""2^33 (272 years in seconds); a value above it is refused, so that nanoseconds fit 64 bits."""
MAX_VALUE = 2.0**33

_PER_OCTAVE = 1 << SCHEMA
_CELLS = 512


def _octave_bounds() -> npt.NDArray[np.float64]:
    """Upper bounds within one octave, as fractions of frexp: entry j is 2^(j/64 - 1), j = 0..64, in [0.5, 1]."""
    with localcontext() as context:
        context.prec = 40
        return np.array([float(Decimal(2) ** (Decimal(j) / _PER_OCTAVE - 1)) for j in range(_PER_OCTAVE + 1)])


_BOUNDS = _octave_bounds()
# Every cell of width 1/1024 in [0.5, 1) holds at most one bound (the narrowest bucket is 0.0054 wide), so one lookup
# and one comparison place a fraction; searchsorted takes several times as long.
_CELL_STARTS = np.searchsorted(_BOUNDS, 0.5 + np.arange(_CELLS) / (2 * _CELLS), side="left").astype(np.int32)


def bucket_index(values: npt.ArrayLike) -> npt.NDArray[np.int32]:
    """Schema-6 index of each value; values finite, > 0 and normal floats (not checked here). Same shape, int32."""
    fraction, exponent = np.frexp(np.asarray(values, np.float64))
    start = _CELL_STARTS[((fraction - 0.5) * (2 * _CELLS)).astype(np.int32)]
    inside = start + (fraction > _BOUNDS[start])
    return np.asarray((exponent - 1) * _PER_OCTAVE + inside, np.int32)


def bucket_upper(index: int, schema: int = SCHEMA) -> float:
    """Inclusive upper bound of a bucket as a float; bucket_upper(index - 1) is its exclusive lower bound."""
    octave, step = divmod(index << (SCHEMA - schema), _PER_OCTAVE)
    return math.ldexp(float(_BOUNDS[step]), octave + 1)


def relative_error(schema: int = SCHEMA) -> float:
    """Largest relative distance of a value from its bucket's geometric midpoint: 2^(2^-(schema+1)) - 1."""
    return float(2.0 ** (2.0 ** -(schema + 1)) - 1.0)
