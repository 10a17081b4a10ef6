"""Delayed labels: count a unit only when it is old enough for its label to have come.

Comparing "labelled so far" under a ramp is wrong in 99 % of A/A experiments when wrong answers are labelled later than
right ones: the younger arm misses the late labels. A matured-cohort metric fixes a window W: a unit counts when it is
older than W, its outcome is the label that came within W of it, and a label that came later is ignored for good.
Times are seconds (any epoch).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from . import checks

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Maturity:
    """One arm: units so far, units old enough, their share, and when the last unit of today will be old enough."""

    units: int
    matured: int
    fully_mature_at: float | None

    @property
    def share(self) -> float | None:
        return self.matured / self.units if self.units else None


def matured(exposed_at: npt.ArrayLike, *, window: float, as_of: float) -> npt.NDArray[np.bool_]:
    """Which units (or cohorts, by the time of their last unit) are at least `window` old at `as_of`."""
    checks.at_least("window", window, 0.0)
    return np.asarray(checks.finite("exposed_at", exposed_at) + window <= as_of)


def outcome_within(exposed_at: npt.ArrayLike, labelled_at: npt.ArrayLike, *, window: float) -> npt.NDArray[np.bool_]:
    """Which labels came in time: 0 <= labelled - exposed <= window; NaN in labelled_at means no label yet."""
    checks.at_least("window", window, 0.0)
    with np.errstate(invalid="ignore"):
        age = np.asarray(labelled_at, np.float64) - checks.finite("exposed_at", exposed_at)
        return np.asarray((age >= 0.0) & (age <= window))


def maturity(cohort_end: npt.ArrayLike, units: npt.ArrayLike, *, window: float, as_of: float) -> Maturity:
    """Maturity of one arm from cohorts (hours): the time of each cohort's last unit, and its units."""
    ends, sizes = checks.finite("cohort_end", cohort_end), checks.counts("units", units)
    old = matured(ends, window=window, as_of=as_of)
    filled = ends[sizes > 0]
    last = float(filled.max()) + window if filled.size else None
    return Maturity(int(sizes.sum()), int(sizes[old].sum()), last)
