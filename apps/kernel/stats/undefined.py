"""What a comparison says when the data cannot answer: a reason, never a p-value of 0 or 1.

Vectorised results carry one code per element (uint8): 0 is defined, any other is a `Reason`. `at()` of a result turns
an element into the scalar record or into `Undefined`, so no caller can mistake a missing answer for a number.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.uint8]


class Reason(StrEnum):
    """Why there is no number. The order is stored nowhere; the words are."""

    NO_DATA = "no_data"
    TOO_FEW_UNITS = "too_few_units"
    ZERO_VARIANCE = "zero_variance"
    ZERO_BASELINE = "zero_baseline"
    UNBOUNDED = "unbounded"
    NO_DISCORDANT_PAIRS = "no_discordant_pairs"
    NO_DIFFERENCES = "no_differences"
    TOO_FEW_FOR_QUANTILE = "too_few_for_quantile"
    NO_COMMON_PERIOD = "no_common_period"
    NOT_FINITE = "not_finite"
    TOO_FEW_TO_ADJUST = "too_few_to_adjust"
    NO_DENOMINATOR = "no_denominator"


TEXTS = {
    Reason.NO_DATA: "an arm has no data yet",
    Reason.TOO_FEW_UNITS: "an arm has fewer than two units, so its spread cannot be estimated",
    Reason.ZERO_VARIANCE: "all values are (nearly) the same, so no difference can be judged against their spread",
    Reason.ZERO_BASELINE: "an arm's mean is not above zero, so a relative lift has no meaning",
    Reason.UNBOUNDED: "the control's mean is too close to zero for its spread: the lift has no bounded interval",
    Reason.NO_DISCORDANT_PAIRS: "the two versions were right and wrong on exactly the same inputs",
    Reason.NO_DIFFERENCES: "all paired differences are zero",
    Reason.TOO_FEW_FOR_QUANTILE: "too few values lie beyond the quantile: at least 4 q / (1 - q) are needed",
    Reason.NO_COMMON_PERIOD: "no period has enough units in both arms",
    Reason.NOT_FINITE: "the numbers are too large or too small to be computed with",
    Reason.TOO_FEW_TO_ADJUST: "an arm has fewer than three units, too few to adjust by a covariate",
    Reason.NO_DENOMINATOR: "what the ratio divides by sums to 0 in an arm",
}
_ORDER = tuple(Reason)
DEFINED = np.uint8(0)


@dataclass(frozen=True, slots=True)
class Undefined:
    """The answer that is none; `text` is a clause for a sentence."""

    reason: Reason

    @property
    def text(self) -> str:
        return TEXTS[self.reason]


def code_of(reason: Reason) -> np.uint8:
    return np.uint8(_ORDER.index(reason) + 1)


def reason_of(code: int | np.uint8) -> Reason | None:
    return _ORDER[int(code) - 1] if code else None


def first_of(*rules: tuple[Any, Reason]) -> Codes:
    """Codes from (condition, reason) pairs, broadcast together; the first condition that holds gives the reason."""
    shape = np.broadcast_shapes(*(np.shape(condition) for condition, _ in rules))
    codes = np.zeros(shape, np.uint8)
    for condition, reason in rules:
        codes = np.where((codes == DEFINED) & np.asarray(condition, bool), code_of(reason), codes)
    return np.asarray(codes, np.uint8)


def either(*codes: npt.ArrayLike) -> Codes:
    """The first code that is not zero, element by element."""
    arrays = np.broadcast_arrays(*(np.asarray(code, np.uint8) for code in codes))
    result = arrays[0]
    for other in arrays[1:]:
        result = np.where(result == DEFINED, other, result)
    return np.asarray(result, np.uint8)
