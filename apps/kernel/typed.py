"""A form whose numbers are typed by people: a fault stands beside its field, and what was typed stays."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import ClassVar

from apps.kernel.errors import FieldError, InvalidInput


def number_typed(text: str) -> float:
    """``1,000`` is a thousand, ``99,5`` and ``99,5 %`` are what a keyboard with a decimal comma writes.

    Raises ValueError for what is no finite number, the empty text among it.
    """
    plain = text.replace(" ", "").removesuffix("%")
    value = float(re.sub(r",(?=\d{3}(?!\d))", "", plain).replace(",", "."))
    if not math.isfinite(value):
        raise ValueError(text)
    return value


class TypedForm:
    """``values``: field -> text as typed; ``faults``: field -> sentence.

    ``MOST``: what is larger is no number here. ``FAULTY``: what is read in place of something that is none.
    """

    MOST: ClassVar[float] = math.inf
    FAULTY: ClassVar[float | None] = None

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = dict(values)
        self.faults: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        return self.values[name]

    def number(self, name: str) -> float | None:
        """None where nothing was typed; ``FAULTY``, and a fault, where it is no number."""
        if not self[name].replace(" ", "").removesuffix("%"):
            return None
        try:
            value = number_typed(self[name])
        except ValueError:
            value = math.inf
        if abs(value) > self.MOST or not math.isfinite(value):
            self.faults[name] = f"{self[name][:40]!r} is no number."
            return self.FAULTY
        return value

    def whole(self, name: str, default: int | None = None) -> int | None:
        """``default`` where nothing was typed; a fraction is cut off, and a fault."""
        value = self.number(name)
        if value is None:
            return default
        if value != int(value):
            self.faults[name] = f"{self[name][:40]} is no whole number."
        return int(value)

    def refuse_faults(self) -> None:
        """Raises InvalidInput with every fault at its field, if there is one."""
        if self.faults:
            fields = tuple(FieldError(f"/{name}", "not_a_number", text) for name, text in self.faults.items())
            raise InvalidInput("not_a_number", next(iter(self.faults.values())), fields=fields)
