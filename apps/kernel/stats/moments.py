"""Additive sufficient statistics: everything a test of means needs, in numbers that merge by addition.

One element describes one group of units (an arm in a period, an hour, a dimension value): how many units, the sums of
k variables, and their centred squares and cross products S_jk = sum (x_j - mean_j)(x_k - mean_k). k is 1 for a mean,
2 for a ratio (numerator, denominator) or for a covariate (outcome, before), 4 for a ratio with a covariate.

Centred products, not raw squares: sum x^2 - (sum x)^2 / n has lost all digits where values are near 1e9 and their
spread near 1. Merging is the parallel update of Chan, Golub and LeVeque (1983):
S = S_a + S_b + (n_a n_b / n) d d', d = mean_b - mean_a.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from . import checks

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """n: int64, any shape S. sums: float64, S + (k,). centred: float64, S + (k, k), symmetric.

    Build it with of, by_group, from_counts, from_parts, empty or a merge; they validate.
    """

    n: Integers
    sums: Floats
    centred: Floats

    @classmethod
    def empty(cls, shape: tuple[int, ...] = (), variables: int = 1) -> Self:
        return cls(np.zeros(shape, np.int64), np.zeros((*shape, variables)), np.zeros((*shape, variables, variables)))

    @classmethod
    def from_parts(cls, n: npt.ArrayLike, sums: npt.ArrayLike, centred: npt.ArrayLike) -> Self:
        """From stored columns. ValueError naming the field where shapes disagree or a square is negative."""
        count = checks.counts("n", n).astype(np.int64)
        total, products = checks.finite("sums", sums), checks.finite("centred", centred)
        k = total.shape[-1] if total.ndim else 0
        if total.shape != (*count.shape, k) or products.shape != (*count.shape, k, k) or k == 0:
            raise ValueError(
                f"sums must have the shape of n and one axis more, centred two more of equal length, "
                f"got n {count.shape}, sums {total.shape}, centred {products.shape}"
            )
        if np.any(np.diagonal(products, axis1=-2, axis2=-1) < 0.0):
            raise ValueError("centred must have squares of at least 0 on its diagonal")
        return cls(count, total, products)

    @classmethod
    def of(cls, *columns: npt.ArrayLike) -> Self:
        """One group from raw values: k columns of equal length, one row per unit. ValueError on NaN or infinity."""
        values = _columns(columns)
        n = values.shape[1]
        sums = values.sum(axis=1)
        deviations = values - (sums / max(n, 1))[:, None]
        # The mean is rounded; taking out what is left of it (Chan's correction) keeps the last digits.
        left = deviations.sum(axis=1)
        return cls(
            np.asarray(n, np.int64), sums, _symmetric(deviations @ deviations.T - np.outer(left, left) / max(n, 1))
        )

    @classmethod
    def by_group(cls, groups: npt.ArrayLike, size: int, *columns: npt.ArrayLike) -> Self:
        """`size` groups from raw values in one pass; groups: int, 0 <= g < size, one per unit. Shape (size,)."""
        values = _columns(columns)
        group = np.asarray(groups)
        if group.shape != (values.shape[1],) or group.dtype.kind not in "iu":
            raise ValueError(f"groups must be one whole number per unit, got {group.dtype} of shape {group.shape}")
        if group.size and not (int(group.min()) >= 0 and int(group.max()) < size):
            raise ValueError(f"groups must lie between 0 and {size - 1}, got {int(group.min())} to {int(group.max())}")
        k = values.shape[0]
        n = np.bincount(group, minlength=size).astype(np.int64)
        weights = np.maximum(n, 1)
        sums: Floats = np.stack([np.bincount(group, column, size).astype(np.float64) for column in values], axis=-1)
        deviations = values - (sums / weights[:, None])[group].T
        left = np.stack([np.bincount(group, column, size) for column in deviations], axis=-1)
        centred = np.empty((size, k, k))
        for i in range(k):
            for j in range(i + 1):
                products = np.bincount(group, deviations[i] * deviations[j], size)
                centred[:, i, j] = centred[:, j, i] = products - left[:, i] * left[:, j] / weights
        return cls(n, sums, _symmetric(centred))

    @classmethod
    def from_counts(cls, successes: npt.ArrayLike, trials: npt.ArrayLike) -> Self:
        """A 0/1 variable: S = k (n - k) / n, exact up to one rounding."""
        k, n = checks.part_of("successes", successes, "trials", trials)
        k, n = np.broadcast_arrays(k, n)
        squares = k * (n - k) / np.maximum(n, 1.0)
        return cls(n.astype(np.int64), k[..., None].copy(), squares[..., None, None])

    @property
    def shape(self) -> tuple[int, ...]:
        return self.n.shape

    @property
    def variables(self) -> int:
        return int(self.sums.shape[-1])

    @property
    def mean(self) -> Floats:
        """S + (k,); NaN where a group is empty."""
        n = self.n[..., None]
        return np.asarray(np.divide(self.sums, n, out=np.full(self.sums.shape, np.nan), where=n > 0))

    @property
    def covariance(self) -> Floats:
        """Unbiased (n - 1), S + (k, k); NaN where a group has fewer than two units."""
        n = self.n[..., None, None]
        return np.asarray(np.divide(self.centred, n - 1.0, out=np.full(self.centred.shape, np.nan), where=n > 1))

    def select(self, *variables: int) -> "Moments":
        """The same units with these variables, in this order."""
        index = list(variables)
        return Moments(self.n, self.sums[..., index], self.centred[..., index, :][..., index])

    def __getitem__(self, index: Any) -> "Moments":
        """Index over the groups, never over the variables."""
        where = index if isinstance(index, tuple) else (index,)
        if any(part is Ellipsis for part in where):
            raise IndexError("an ellipsis would reach into the variables; index the groups by position")
        return Moments(np.asarray(self.n[where]), self.sums[where], self.centred[where])

    def __add__(self, other: "Moments") -> "Moments":
        """Merge group by group (shapes broadcast). Commutative bit for bit, associative to rounding; see `merged`."""
        if self.variables != other.variables:
            raise ValueError(f"moments of {self.variables} and of {other.variables} variables do not add")
        n = self.n + other.n
        apart = np.where((self.n > 0) & (other.n > 0), 1.0, 0.0)[..., None]
        d = np.nan_to_num(other.mean - self.mean) * apart
        weight = self.n.astype(np.float64) * other.n / np.maximum(n, 1)  # in this order it is the same both ways
        between = weight[..., None, None] * (d[..., :, None] * d[..., None, :])
        return Moments(np.asarray(n), self.sums + other.sums, self.centred + other.centred + between)

    def merged(self, axis: int | tuple[int, ...] = -1) -> "Moments":
        """All groups along axes of S as one. Every sum runs over sorted terms: the order of groups changes no bit."""
        axes = tuple(a % self.n.ndim for a in (axis if isinstance(axis, tuple) else (axis,)))
        kept = [a for a in range(self.n.ndim) if a not in axes]
        n = np.moveaxis(self.n, kept, range(len(kept))).reshape(*(self.n.shape[a] for a in kept), -1)
        k = self.variables
        lead = (*kept, *axes)
        sums = self.sums.transpose(*lead, self.n.ndim).reshape(*n.shape, k)
        centred = self.centred.transpose(*lead, self.n.ndim, self.n.ndim + 1).reshape(*n.shape, k, k)
        n = self.n.transpose(*lead).reshape(n.shape)
        return _merge_last(n, sums, centred)


def merge_all(parts: "list[Moments]") -> Moments:
    """Any number of equally shaped moments in any order, bit for bit the same; ValueError for none."""
    if not parts:
        raise ValueError("parts must hold at least one element")
    return Moments(
        np.stack([p.n for p in parts], axis=-1),
        np.stack([p.sums for p in parts], axis=-2),
        np.stack([p.centred for p in parts], axis=-3),
    ).merged(-1)


def _merge_last(n: Integers, sums: Floats, centred: Floats) -> Moments:
    total = n.sum(axis=-1)
    sum_all = np.sort(sums, axis=-2).sum(axis=-2)
    grand = sum_all / np.maximum(total, 1)[..., None]
    means = sums / np.maximum(n, 1)[..., None]
    d = np.where(n[..., None] > 0, means - grand[..., None, :], 0.0)
    between = n[..., None, None] * (d[..., :, None] * d[..., None, :])
    within = np.sort(centred, axis=-3).sum(axis=-3)
    return Moments(np.asarray(total), sum_all, within + np.sort(between, axis=-3).sum(axis=-3))


def _columns(columns: tuple[npt.ArrayLike, ...]) -> Floats:
    if not columns:
        raise ValueError("columns must hold at least one variable")
    arrays = [checks.finite(f"column {i}", column).ravel() for i, column in enumerate(columns)]
    if len({array.size for array in arrays}) > 1:
        raise ValueError(f"columns must have equal lengths, got {[array.size for array in arrays]}")
    return np.stack(arrays)


def _symmetric(products: Floats) -> Floats:
    """Squares that rounding made negative are zero."""
    result = products.copy()
    diagonal = np.einsum("...ii->...i", result)
    np.maximum(diagonal, 0.0, out=diagonal)
    return result
