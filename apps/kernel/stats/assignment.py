"""Which arm a unit belongs to: a salted hash on a line of fixed arm ranges.

The line is [0, 2^64). A unit stands at the first 8 bytes (big-endian) of SHA-256(salt, NUL, unit), UTF-8. Arm i owns
the stretch from W_i to W_{i+1}, W the cumulative weights in basis points of the line, whatever the coverage; a
coverage c uses the first c of every stretch. So growing coverage adds units and never moves one, and weights that stay
the same keep every unit where it is. Changed weights do move units: they begin a new experiment with a new salt.

SHA-256 with a salt per experiment, because weak or unsalted hashes make the same users the candidates of every
experiment. All arithmetic is in whole numbers, so every language that has SHA-256 gives the same arm.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

ALL_BP = 10_000
LINE = 1 << 64


@dataclass(frozen=True, slots=True)
class ArmRange:
    """Positions start <= x < end belong to `arm`; end grows with the coverage, start never moves."""

    arm: str
    start: int
    end: int


def position(salt: str, unit: str) -> int:
    """Where a unit stands, 0 <= x < 2^64. ValueError on an empty salt or unit, or a salt with NUL."""
    if not salt or "\0" in salt:
        raise ValueError("salt must be a text that is not empty and holds no NUL")
    if not unit:
        raise ValueError("unit must not be empty: requests without a routing key belong to no experiment")
    return int.from_bytes(hashlib.sha256(f"{salt}\0{unit}".encode()).digest()[:8], "big")


def arm_ranges(weights_bp: Sequence[tuple[str, int]], coverage_bp: int = ALL_BP) -> tuple[ArmRange, ...]:
    """Ranges of arms in the order given. weights_bp sum to 10 000, each at least 1; coverage_bp 0 to 10 000."""
    _check(weights_bp, coverage_bp)
    ranges, before = [], 0
    for arm, weight in weights_bp:
        start = LINE * before // ALL_BP
        length = LINE * (before + weight) // ALL_BP - start
        ranges.append(ArmRange(arm, start, start + length * coverage_bp // ALL_BP))
        before += weight
    return tuple(ranges)


def arm_of(salt: str, unit: str, ranges: Sequence[ArmRange]) -> str | None:
    """The unit's arm, or None where the coverage leaves it out."""
    x = position(salt, unit)
    return next((r.arm for r in ranges if r.start <= x < r.end), None)


def arms_of(salt: str, units: Iterable[str], ranges: Sequence[ArmRange]) -> npt.NDArray[np.int16]:
    """Index of each unit's range, -1 where it is left out; about a microsecond per unit."""
    at = np.fromiter((position(salt, unit) for unit in units), np.uint64)
    result = np.full(at.shape, -1, np.int16)
    for index, r in enumerate(ranges):
        if r.end > r.start:
            result[(at >= np.uint64(r.start)) & (at <= np.uint64(r.end - 1))] = index
    return result


def _check(weights_bp: Sequence[tuple[str, int]], coverage_bp: int) -> None:
    names = [arm for arm, _ in weights_bp]
    if len(set(names)) < len(names):
        raise ValueError(f"weights_bp must name every arm once, got {', '.join(names)}")
    for arm, weight in weights_bp:
        if weight < 1:
            raise ValueError(f"weights_bp[{arm!r}] must be at least 1, got {weight}: an arm without weight is no arm")
    if sum(weight for _, weight in weights_bp) != ALL_BP:
        raise ValueError(f"weights_bp must sum to {ALL_BP}, got {sum(weight for _, weight in weights_bp)}")
    if not 0 <= coverage_bp <= ALL_BP:
        raise ValueError(f"coverage_bp must lie between 0 and {ALL_BP}, got {coverage_bp}")
