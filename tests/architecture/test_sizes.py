"""Sizes that fit in a head: file <= 400 lines, function <= 60, template <= 150."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.architecture.sources import ROOT, python_files, relative, text_of, tree_of

FILE_LINES, FUNCTION_LINES, TEMPLATE_LINES = 400, 60, 150


def lines_of(path: Path) -> int:
    return len(text_of(path).splitlines())


def own_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """From the first line of ``def`` to the end: decorators say what a function is, not what it does."""
    return (function.end_lineno or function.lineno) - function.lineno + 1


def measured_files() -> list[Path]:
    return [*python_files(), *python_files("tests", "benchmarks")]


def test_no_file_is_longer_than_400_lines() -> None:
    long = {relative(path): count for path in measured_files() if (count := lines_of(path)) > FILE_LINES}
    assert long == {}


def test_no_function_is_longer_than_60_lines() -> None:
    long = {
        f"{relative(path)}:{node.lineno} {node.name}": own_lines(node)
        for path in measured_files()
        if lines_of(path) > FUNCTION_LINES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and own_lines(node) > FUNCTION_LINES
    }
    assert long == {}


def test_no_template_is_longer_than_150_lines() -> None:
    templates = sorted((ROOT / "frontend" / "templates").rglob("*.html"))
    assert templates
    assert {relative(path): count for path in templates if (count := lines_of(path)) > TEMPLATE_LINES} == {}


@pytest.mark.parametrize("body", ["x = 1", "return"])
def test_a_function_of_61_lines_is_counted_as_61(body: str) -> None:
    source = "def f():\n" + "    pass\n" * 59 + f"    {body}\n"
    (function,) = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef)
    assert own_lines(function) == 61
