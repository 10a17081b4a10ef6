"""Kubernetes quantities ("500m", "1Gi", "2e3") as exact numbers.

Source of the grammar: the API conventions, resource.Quantity. Plain units or bytes.
"""

from __future__ import annotations

import re
from decimal import Decimal

_SUFFIXES = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal(10) ** 3,
    "M": Decimal(10) ** 6,
    "G": Decimal(10) ** 9,
    "T": Decimal(10) ** 12,
    "P": Decimal(10) ** 15,
    "E": Decimal(10) ** 18,
    "Ki": Decimal(2) ** 10,
    "Mi": Decimal(2) ** 20,
    "Gi": Decimal(2) ** 30,
    "Ti": Decimal(2) ** 40,
    "Pi": Decimal(2) ** 50,
    "Ei": Decimal(2) ** 60,
}
_FORM = re.compile(r"^([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)([a-zA-Z]*)$")


def quantity(text: str | float) -> Decimal:
    """The number. Raises ValueError on what is none.

    >>> [quantity(text) for text in ("500m", "1Ki", "2e3")]
    [Decimal('0.500'), Decimal('1024'), Decimal('2E+3')]
    """
    found = _FORM.match(str(text))
    if found is None or found[2] not in _SUFFIXES:
        raise ValueError(f"{text!r} is not a number with a unit such as 500m, 2 or 1Gi")
    return Decimal(found[1]) * _SUFFIXES[found[2]]


def same_quantity(one: object, other: object) -> bool:
    """Whether two manifest values are the same amount, however written ("0.5" and "500m")."""
    if not all(isinstance(value, str | int | float) and not isinstance(value, bool) for value in (one, other)):
        return False
    try:
        return quantity(str(one)) == quantity(str(other))
    except ValueError:
        return False


def bytes_text(amount: Decimal) -> str:
    """For people: 1.5 GiB."""
    return f"{float(amount) / 2**30:.1f} GiB"
