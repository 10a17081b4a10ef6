"""Winsorising: values beyond a cap become the cap, so that one customer does not decide an experiment.

The cap must be the same for both arms and be fixed before looking at their difference: take it from both arms together
(or from history), never per arm. What is then estimated is the mean of the capped metric; say so beside the number.
Do not cap where the tail is the question (latency, fraud): compare quantiles or shares over a limit instead.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from . import checks

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Caps:
    lower: float
    upper: float

    def apply(self, values: npt.ArrayLike) -> Floats:
        return np.clip(checks.finite("values", values), self.lower, self.upper)


def caps_at(*arms: npt.ArrayLike, lower: float = 0.0, upper: float = 0.999) -> Caps:
    """Caps at two quantiles of all arms together (0 and 1 leave an end as it is). Quantiles are order statistics, so a
    cap is a value that occurred: lower rounds up, upper rounds down, as in scipy.stats.mstats.winsorize."""
    if not 0.0 <= lower < upper <= 1.0:
        raise ValueError(f"lower and upper must satisfy 0 <= lower < upper <= 1, got {lower!r} and {upper!r}")
    values = np.sort(np.concatenate([checks.finite("arms", arm).ravel() for arm in arms]))
    if values.size == 0:
        raise ValueError("arms must hold at least one value")
    # 1 - 0.9 is 0.09999999999999998: the number cut off is rounded at the twelfth digit before it is floored.
    cut_low = int(np.floor(round(lower * values.size, 12)))
    cut_high = int(np.floor(round((1.0 - upper) * values.size, 12)))
    return Caps(float(values[cut_low]), float(values[values.size - 1 - cut_high]))
