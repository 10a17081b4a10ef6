"""Bad input is refused by name: every message says which argument, what it was and what it may be."""

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def open_unit(name: str, value: float) -> float:
    if not 0.0 < value < 1.0:
        raise ValueError(f"{name} must lie strictly between 0 and 1, got {value!r}")
    return float(value)


def positive(name: str, value: float) -> float:
    if not (value > 0.0 and np.isfinite(value)):
        raise ValueError(f"{name} must be a number over 0, got {value!r}")
    return float(value)


def at_least(name: str, value: float, least: float) -> float:
    if not (value >= least and np.isfinite(value)):
        raise ValueError(f"{name} must be at least {least:g}, got {value!r}")
    return float(value)


def counts(name: str, values: npt.ArrayLike) -> Floats:
    """Whole numbers >= 0 as float64 (exact to 2^53)."""
    array = np.asarray(values, np.float64)
    bad = ~(np.isfinite(array) & (array >= 0.0) & (array == np.floor(array)))
    if np.any(bad):
        raise ValueError(f"{name} must be whole numbers of at least 0, got {_first(array, bad)}")
    return array


def part_of(name: str, values: npt.ArrayLike, whole_name: str, whole: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Counts and the counts they are part of: 0 <= values <= whole; not broadcast."""
    part, total = counts(name, values), counts(whole_name, whole)
    over = np.asarray(part > total)
    if np.any(over):
        k, n = np.broadcast_arrays(part, total)
        raise ValueError(f"{name} must not exceed {whole_name}, got {_first(k, over)} of {_first(n, over)}")
    return part, total


def finite(name: str, values: npt.ArrayLike) -> Floats:
    array = np.asarray(values, np.float64)
    bad = ~np.isfinite(array)
    if np.any(bad):
        raise ValueError(f"{name} must be finite numbers, got {_first(array, bad)}")
    return array


def one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
    return value


def _first(array: Any, where: Any) -> str:
    value = float(np.asarray(array)[where].flat[0])
    return f"{value:g}"
