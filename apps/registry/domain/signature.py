"""What callers of a model rely on, and where another version would break them.

Seen from a caller: a candidate is a drop-in for a version when every request that the version accepts is accepted by
the candidate, and the answer has the same shape. So an input that is gone is no break (serving drops columns that the
signature does not know), a new required one is; a wider range is none, a narrower one is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

# A JSON number that the left type accepts is accepted by each of the right ones (serving/columns.py).
_WIDER: Mapping[str, frozenset[str]] = {
    "integer": frozenset({"long", "float", "double"}),
    "long": frozenset({"float", "double"}),
    "float": frozenset({"double"}),
}
_RANGE: Mapping[str, tuple[float, float]] = {
    "integer": (-(2**31), 2**31 - 1),
    "long": (-(2**63), 2**63 - 1),
}
NUMBERS = frozenset({"integer", "long", "float", "double"})


class What(StrEnum):
    """The kinds of difference that break a caller."""

    NEW_REQUIRED = "new_required"
    NOW_REQUIRED = "now_required"
    TYPE = "type"
    CONSTRAINT = "constraint"
    OUTPUT_REMOVED = "output_removed"
    OUTPUT_ADDED = "output_added"
    OUTPUT_TYPE = "output_type"


@dataclass(frozen=True, slots=True)
class Difference:
    """One reason why callers would break; ``str()`` is a sentence that names the column."""

    column: str
    what: What
    before: str
    after: str

    def __str__(self) -> str:
        match self.what:
            case What.NEW_REQUIRED:
                return f"Input '{self.column}' ({self.after}) is new and required."
            case What.NOW_REQUIRED:
                return f"Input '{self.column}' was optional and is now required."
            case What.TYPE:
                return f"Input '{self.column}' was {self.before} and is now {self.after}."
            case What.CONSTRAINT:
                return f"Input '{self.column}' allowed {self.before} and now allows {self.after}."
            case What.OUTPUT_REMOVED:
                return f"Output '{self.column}' ({self.before}) is gone."
            case What.OUTPUT_ADDED:
                return f"Output '{self.column}' ({self.after}) is new."
            case What.OUTPUT_TYPE:
                return f"Output '{self.column}' was {self.before} and is now {self.after}."

    def as_dict(self) -> dict[str, str]:
        """For problem documents and pages."""
        return {
            "column": self.column,
            "what": self.what.value,
            "before": self.before,
            "after": self.after,
            "detail": str(self),
        }


@dataclass(frozen=True, slots=True)
class Column:
    """One input or output; ``values`` None means any."""

    name: str
    type: str
    is_required: bool = True
    is_nullable: bool = False
    minimum: float | None = None
    maximum: float | None = None
    values: tuple[Any, ...] | None = None


@dataclass(frozen=True, slots=True)
class Signature:
    """Inputs by name; outputs by name, or by position where the model gives none."""

    inputs: Mapping[str, Column] = field(default_factory=dict)
    outputs: Mapping[str, Column] = field(default_factory=dict)

    @classmethod
    def of(cls, signature: Mapping[str, Any], constraints: Mapping[str, Any]) -> Signature:
        """From the stored forms (``ModelVersion.signature``, ``ModelVersion.input_constraints``)."""
        inputs = {
            str(entry["name"]): _input(entry, constraints.get(entry["name"]) or {})
            for entry in signature.get("inputs", [])
        }
        outputs: dict[str, Column] = {}
        for position, entry in enumerate(signature.get("outputs", [])):
            name = str(entry["name"]) or f"#{position}"
            outputs[name] = Column(name=name, type=str(entry["type"]))
        return cls(inputs, outputs)


def breaking_differences(before: Signature, after: Signature) -> list[Difference]:
    """Why ``after`` is no drop-in for ``before``, inputs first; empty when it is one."""
    found: list[Difference] = []
    for name, column in after.inputs.items():
        old = before.inputs.get(name)
        if old is None:
            if column.is_required:
                found.append(Difference(name, What.NEW_REQUIRED, "", column.type))
            continue
        found.extend(_input_differences(old, column))
    return found + _output_differences(before, after)


def _input(entry: Mapping[str, Any], constraint: Mapping[str, Any]) -> Column:
    values = constraint.get("values")
    return Column(
        name=str(entry["name"]),
        type=str(entry["type"]),
        is_required=bool(entry.get("required", True)),
        is_nullable=bool(constraint.get("nullable", False)),
        minimum=constraint.get("min"),
        maximum=constraint.get("max"),
        values=None if values is None else tuple(values),
    )


def _input_differences(old: Column, new: Column) -> Iterable[Difference]:
    if new.is_required and not old.is_required:
        yield Difference(new.name, What.NOW_REQUIRED, "optional", "required")
    if new.type != old.type and new.type not in _WIDER.get(old.type, frozenset()):
        yield Difference(new.name, What.TYPE, old.type, new.type)
        return  # ranges of different types do not compare
    if old.is_nullable and not new.is_nullable:
        yield Difference(new.name, What.CONSTRAINT, "null", "no null")
    if not _values_fit(old, new):
        yield Difference(new.name, What.CONSTRAINT, _shown_values(old, new), _shown_values(new, old))
    elif not _range_fits(old, new):
        yield Difference(new.name, What.CONSTRAINT, _shown_range(old), _shown_range(new))


def _values_fit(old: Column, new: Column) -> bool:
    return new.values is None or (old.values is not None and set(old.values) <= set(new.values))


def _range_fits(old: Column, new: Column) -> bool:
    low, high = bounds(old)
    new_low, new_high = bounds(new)
    return new_low <= low and high <= new_high


def bounds(column: Column) -> tuple[float, float]:
    """The smallest and largest value that the column accepts."""
    low, high = _RANGE.get(column.type, (-math.inf, math.inf))
    low = low if column.minimum is None else max(low, column.minimum)
    high = high if column.maximum is None else min(high, column.maximum)
    if column.values is not None and column.type in NUMBERS and column.values:
        low, high = max(low, min(column.values)), min(high, max(column.values))
    return low, high


def _shown_range(column: Column) -> str:
    low, high = column.minimum, column.maximum
    if low is None and high is None:
        return f"any {column.type}"
    if low is None:
        return f"at most {high:g}"
    return f"at least {low:g}" if high is None else f"{low:g} to {high:g}"


def _shown_values(column: Column, other: Column) -> str:
    """The values that the other one lacks, because that is what the reader looks for; at most five."""
    if column.values is None:
        return f"any {column.type}"
    rest = [str(value) for value in column.values if other.values is None or value not in other.values]
    if not rest:
        return f"only {len(column.values)} of these values" if other.values else "these values"
    return ", ".join(rest[:5]) + (f" and {len(rest) - 5} more" if len(rest) > 5 else "")


def _output_differences(before: Signature, after: Signature) -> list[Difference]:
    found = [
        Difference(name, What.OUTPUT_REMOVED, column.type, "")
        for name, column in before.outputs.items()
        if name not in after.outputs
    ]
    for name, column in after.outputs.items():
        old = before.outputs.get(name)
        if old is None:
            found.append(Difference(name, What.OUTPUT_ADDED, "", column.type))
        elif old.type != column.type:
            found.append(Difference(name, What.OUTPUT_TYPE, old.type, column.type))
    return found
