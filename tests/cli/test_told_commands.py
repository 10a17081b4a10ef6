"""The commands that pages show: each is one that the program takes."""

from __future__ import annotations

import re
import shlex
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import typer

from cli.main import cli
from tests.cli.conftest import ROOT

TEMPLATES = ROOT / "frontend" / "templates"


def told() -> list[tuple[Path, str]]:
    found = []
    for path in sorted(TEMPLATES.rglob("*.html")):
        for block in re.findall(r"<pre>(.*?)</pre>", path.read_text(encoding="utf-8"), re.DOTALL):
            text = unescape(re.sub(r"\{\{.*?\}\}", "x", re.sub(r"\{%.*?%\}", " ", block))).replace("\\\n", " ")
            lines = (line.split("&&")[0].strip() for line in text.splitlines())
            found += [(path.relative_to(TEMPLATES), line) for line in lines if line.startswith("pilothouse ")]
    return found


def test_pages_show_commands() -> None:
    assert len(told()) >= 6


@pytest.mark.parametrize(("path", "line"), told(), ids=str)
def test_a_command_of_a_page_is_understood(path: Path, line: str) -> None:
    """Parsed with its options and arguments, and not run: what the program does not take raises."""
    command: Any = typer.main.get_command(cli)
    words = shlex.split(line)[1:]
    while commands := getattr(command, "commands", None):
        assert words[0] in commands, f"{path}: there is no command {words[0]!r}"
        command, words = commands[words[0]], words[1:]
    command.make_context("pilothouse", words)
