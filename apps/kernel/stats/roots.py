"""Where a function crosses zero: scipy's Brent, loaded when first needed (a third of a second at every start else)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import cast

LEAST_RTOL = 4.0 * sys.float_info.epsilon
"""The least that scipy takes, and its own default."""


def root(excess: Callable[[float], float], low: float, high: float, *, xtol: float, rtol: float = LEAST_RTOL) -> float:
    """x between ``low`` and ``high`` with ``excess(x)`` = 0, to ``xtol``. Raises ValueError unless the signs differ."""
    from scipy import optimize

    return float(cast(float, optimize.brentq(excess, low, high, xtol=xtol, rtol=rtol)))
