"""Tests of means: Welch's t for two arms, the paired t for two versions on the same inputs."""

import numpy as np
import numpy.typing as npt

from .arms import essentially_zero, independent, mean_of
from .comparison import Comparisons, from_error
from .difference import difference
from .moments import Moments
from .undefined import Reason, either, first_of


def welch(
    control: Moments,
    treatment: Moments,
    *,
    variable: int = 0,
    null: npt.ArrayLike = 0.0,
    alpha: float = 0.05,
    alternative: str = "two-sided",
) -> Comparisons:
    """Welch's (1947) t from sufficient statistics, element by element; equals R's t.test(treatment, control)."""
    pair = independent(mean_of(control, variable), mean_of(treatment, variable))
    return difference(pair, null=null, alpha=alpha, alternative=alternative, method="welch t")


def welch_values(
    control: npt.ArrayLike, treatment: npt.ArrayLike, *, alpha: float = 0.05, alternative: str = "two-sided"
) -> Comparisons:
    """Welch's t from raw values, one number per unit."""
    return welch(Moments.of(control), Moments.of(treatment), alpha=alpha, alternative=alternative)


def paired_t(
    differences: Moments,
    *,
    variable: int = 0,
    null: npt.ArrayLike = 0.0,
    alpha: float = 0.05,
    alternative: str = "two-sided",
) -> Comparisons:
    """Student's (1908) t of treatment - control on the same units; `differences` holds one difference per unit."""
    arm = mean_of(differences, variable)
    error = np.sqrt(arm.variance)
    # A difference of zero has no scale of its own to round against; the spread of exact zeros is exactly zero.
    constant = (error == 0.0) | essentially_zero(error, arm.value)
    codes = either(arm.undefined, first_of((constant, Reason.ZERO_VARIANCE)))
    return from_error(
        "paired t",
        "difference",
        arm.value,
        error,
        df=np.maximum(arm.df, 0.0),
        null=null,
        alpha=alpha,
        alternative=alternative,
        undefined=codes,
    )


def paired_t_values(
    control: npt.ArrayLike, treatment: npt.ArrayLike, *, alpha: float = 0.05, alternative: str = "two-sided"
) -> Comparisons:
    """Paired t from two columns of equal length; row i of both is the same unit."""
    before, after = np.asarray(control, np.float64), np.asarray(treatment, np.float64)
    if before.shape != after.shape:
        raise ValueError(f"control and treatment must have equal lengths, got {before.shape} and {after.shape}")
    return paired_t(Moments.of(after - before), alpha=alpha, alternative=alternative)
