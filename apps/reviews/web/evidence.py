"""Evidence as a page shows it: any JSON becomes facts, tables and verdict chips. Pure; escaping is the template's."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from apps.kernel.verdicts import Verdict

VERDICTS = frozenset(verdict.value for verdict in Verdict)
DEEPEST = 5
MOST_ROWS = 100
WORST_FIRST = ("fail", "error", "no_data", "inconclusive", "pending", "pass")
_DIGEST = re.compile(r"sha256:([0-9a-f]{12})[0-9a-f]{52}")
_UNITS = {"_seconds": "s", "_ms": "ms", "_bytes": "B"}


@dataclass(frozen=True, slots=True)
class Cell:
    """``kind``: text, number or verdict; ``whole`` is the text before its digests were cut, where it had any;
    ``name``: the head of its column, which a phone shows beside it."""

    text: str
    kind: str = "text"
    whole: str = ""
    name: str = ""


@dataclass(slots=True)
class Block:
    """A titled piece: facts (name, cell), a table (head, rows), and smaller blocks."""

    title: str = ""
    facts: list[tuple[str, Cell]] = field(default_factory=list)
    head: list[str] = field(default_factory=list)
    rows: list[list[Cell]] = field(default_factory=list)
    more_rows: int = 0
    inner: list[Block] = field(default_factory=list)


def blocks_of(evidence: Any) -> Block:
    """The evidence as one block; what is nested deeper than DEEPEST is written as it is."""
    return _block("", evidence, 0)


def _block(title: str, value: Any, depth: int) -> Block:
    block = Block(title)
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if _is_plain(inner) or depth >= DEEPEST:
                block.facts.append(_fact(str(name), inner))
            else:
                block.inner.append(_block(_words(str(name)), inner, depth + 1))
    elif _is_table(value):
        _fill_table(block, value)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        block.head, block.rows = [], [[_cell("", inner)] for inner in value[:MOST_ROWS]]
        block.more_rows = max(0, len(value) - MOST_ROWS)
    else:
        block.facts.append(_fact("value", value))
    return block


def _fill_table(block: Block, rows: Sequence[Mapping[str, Any]]) -> None:
    # the database keeps no order of names: texts first, then the verdict, then numbers
    names = sorted({str(name) for row in rows for name in row}, key=lambda name: (_rank(name, rows), name))
    ordered = sorted(rows, key=_badness)
    block.head = [_head(name) for name in names]
    block.rows = [
        [replace(_cell(name, row.get(name)), name=head) for name, head in zip(names, block.head, strict=True)]
        for row in ordered[:MOST_ROWS]
    ]
    block.more_rows = max(0, len(rows) - MOST_ROWS)


def _rank(name: str, rows: Sequence[Mapping[str, Any]]) -> int:
    if name in {"verdict", "status"}:
        return 1
    return 2 if any(isinstance(row.get(name), int | float) for row in rows) else 0


def _badness(row: Mapping[str, Any]) -> int:
    verdict = str(row.get("verdict", ""))
    return WORST_FIRST.index(verdict) if verdict in WORST_FIRST else len(WORST_FIRST)


def _is_plain(value: Any) -> bool:
    return not isinstance(value, Mapping | list)


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, Mapping) for row in value)


def _fact(name: str, value: Any) -> tuple[str, Cell]:
    return _head(name), _cell(name, value)


def _cell(name: str, value: Any) -> Cell:
    if value is None:
        return Cell("–")
    if isinstance(value, bool):
        return Cell("yes" if value else "no")
    if isinstance(value, int | float):
        return Cell(_number(name, value), "number")
    if isinstance(value, str):
        cut = _DIGEST.sub(r"\1", value)
        if cut != value:
            return Cell(cut, whole=value)
        return Cell(value, "verdict" if name in {"verdict", "status"} and value in VERDICTS else "text")
    return Cell(_flat(value))


def _number(name: str, value: float) -> str:
    if name.endswith("_bp"):
        return f"{_plain(value / 100)} %"
    unit = next((unit for tail, unit in _UNITS.items() if name.endswith(tail)), "")
    return f"{_plain(value)} {unit}".strip()


def _plain(value: float) -> str:
    """Up to five significant digits, thousands apart; whole numbers whole."""
    if isinstance(value, int) or value.is_integer():
        return f"{int(value):,}" if abs(value) < 1e15 else f"{value:g}"
    digits = max(0, 4 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}".rstrip("0").rstrip(".") if digits <= 12 else f"{value:.5g}"


def _head(name: str) -> str:
    for tail in ("_bp", *_UNITS):
        name = name.removesuffix(tail)
    return _words(name)


def _words(name: str) -> str:
    return name.replace("_", " ").strip() or "value"


def _flat(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{_words(str(name))} {_cell(str(name), inner).text}" for name, inner in value.items())
    return ", ".join(_cell("", inner).text for inner in value)
