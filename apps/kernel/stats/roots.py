"""Where a function crosses zero: scipy's Brent, loaded when first needed (a third of a second at every start else)."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast


def root(excess: Callable[[float], float], low: float, high: float, *, xtol: float, rtol: float | None = None) -> float:
    """x between ``low`` and ``high`` with ``excess(x)`` = 0, to ``xtol``. Raises ValueError unless the signs differ."""
    from scipy import optimize

    more = {} if rtol is None else {"rtol": rtol}
    return float(cast(float, optimize.brentq(excess, low, high, xtol=xtol, **more)))
