"""What every planner returns: the number, its formula in one line, and the R and Python lines that give it again."""

import math
from dataclasses import dataclass, replace

from apps.kernel.stats import checks

SIDES = (1, 2)


@dataclass(frozen=True, slots=True)
class Recipe:
    """formula: for people. r: an expression for R 4. python: statements (scipy) that leave the number in `x`."""

    formula: str
    r: str
    python: str


@dataclass(frozen=True, slots=True)
class SampleSize:
    """Units per arm, each rounded up; `exact` is the control's number before rounding (and before any factor)."""

    control: int
    treatment: int
    exact: float
    recipe: Recipe
    factors: tuple[tuple[str, float], ...] = ()
    ratio: float = 1.0

    @property
    def total(self) -> int:
        return self.control + self.treatment

    def times(self, factor: float, why: str) -> "SampleSize":
        """Multiplied (design effect, sequential looks) from the unrounded numbers; the factor is kept beside it."""
        checks.at_least(why, factor, 1.0)
        factors = (*self.factors, (why, factor))
        product = math.prod(value for _, value in factors)
        control = self.exact * product
        return replace(self, control=_up(control), treatment=_up(control * self.ratio), factors=factors)


@dataclass(frozen=True, slots=True)
class PlanNumber:
    """One number: a power in [0, 1], a detectable effect, a cost factor."""

    value: float
    recipe: Recipe


def sized(exact: float, ratio: float, recipe: Recipe) -> SampleSize:
    """A size from the control's unrounded number and n_treatment / n_control."""
    return SampleSize(_up(exact), _up(exact * ratio), exact, recipe, (), ratio)


def check_design(alpha: float, power: float | None, ratio: float, sides: int) -> None:
    checks.open_unit("alpha", alpha)
    if power is not None:
        checks.open_unit("power", power)
        if power <= alpha / sides:
            raise ValueError(f"power must be over alpha, got {power!r} with alpha {alpha!r}: a coin would do")
    checks.positive("ratio", ratio)
    if sides not in SIDES:
        raise ValueError(f"sides must be 1 or 2, got {sides!r}")


def _up(number: float) -> int:
    """Round up, forgiving what arithmetic leaves behind: 2000.0000000001 is 2,000."""
    return max(2, math.ceil(round(number, 7)))
