"""Many tests at once: adjusted p-values that may be compared with alpha as they are."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def holm(p_values: npt.ArrayLike, axis: int = -1) -> Floats:
    """Holm (1979): family-wise error. NaN (undefined) stays NaN and does not count as a test."""
    p, order, rank, tests = _sorted(p_values, axis)
    with np.errstate(invalid="ignore"):
        adjusted = np.minimum(np.maximum.accumulate(p * (tests - rank), axis=-1), 1.0)
    return _restored(adjusted, order, axis)


def benjamini_hochberg(p_values: npt.ArrayLike, axis: int = -1) -> Floats:
    """Benjamini and Hochberg (1995): false discovery rate, for independent or positively dependent tests."""
    p, order, rank, tests = _sorted(p_values, axis)
    scaled = np.where(np.isnan(p), np.inf, p * tests / (rank + 1.0))
    adjusted = np.minimum(np.minimum.accumulate(scaled[..., ::-1], axis=-1)[..., ::-1], 1.0)
    return _restored(np.where(np.isnan(p), np.nan, adjusted), order, axis)


def _sorted(p_values: npt.ArrayLike, axis: int) -> tuple[Floats, npt.NDArray[np.intp], Floats, Floats]:
    p = np.moveaxis(np.atleast_1d(np.asarray(p_values, np.float64)), axis, -1)
    if np.any((p < 0.0) | (p > 1.0)):
        raise ValueError("p_values must lie between 0 and 1")
    order = np.argsort(p, axis=-1, kind="stable")  # NaN last
    tests = np.isfinite(p).sum(axis=-1, keepdims=True).astype(np.float64)
    return np.take_along_axis(p, order, -1), order, np.arange(p.shape[-1], dtype=np.float64), tests


def _restored(values: Floats, order: npt.NDArray[np.intp], axis: int) -> Floats:
    result = np.empty_like(values)
    np.put_along_axis(result, order, values, -1)
    return np.moveaxis(result, -1, axis)
