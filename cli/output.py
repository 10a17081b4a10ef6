"""Results to stdout, as a table or JSON; everything else to stderr."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import typer


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"


def show_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def show_rows(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Aligned columns, two spaces apart."""
    texts = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(line[place]) for line in [list(columns), *texts]) for place in range(len(columns))]
    for line in [[column.upper() for column in columns], *texts]:
        typer.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def show_facts(facts: Mapping[str, Any]) -> None:
    """One fact a line; empty ones left out."""
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        if value not in (None, "", [], {}):
            typer.echo(f"{name.ljust(width)}  {_cell(value)}")


def say(text: str) -> None:
    """Progress: to stderr, so that stdout stays what was asked for."""
    typer.echo(text, err=True)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or "-"
    return " ".join(str(value).split()) if str(value).strip() else "-"
