"""Results to stdout, as a table, JSON or YAML; everything else to stderr."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import typer
import yaml


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def show_data(value: Any, output: Format) -> None:
    """What the API gave, and nothing else."""
    if output is Format.YAML:
        typer.echo(yaml.safe_dump(value, sort_keys=False, allow_unicode=True).rstrip())
    else:
        typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def show_rows(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Aligned columns, two spaces apart; an empty table says so, to stderr."""
    if not rows:
        say("There are none.")
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


def say_dry(is_dry: bool) -> None:
    """After a dry run, what was shown must not be taken for something that is there."""
    if is_dry:
        say("Dry run: nothing was stored.")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or "-"
    return " ".join(str(value).split()) if str(value).strip() else "-"
