"""What the architecture tests look at: the product's source files, by program."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("agent", "apps", "cli", "controlplane", "demo", "embedded", "serving", "worker")


def python_files(*programs: str) -> list[Path]:
    """Every module of ``programs`` (default: all of the product), migrations left out: Django writes those."""
    found = [path for program in programs or PROGRAMS for path in (ROOT / program).rglob("*.py")]
    return sorted(path for path in found if "migrations" not in path.parts and "__pycache__" not in path.parts)


def tree_of(path: Path) -> ast.Module:
    """The parsed file. Not kept: the trees of all files are millions of objects, which every later collection of
    garbage would walk through."""
    return ast.parse(text_of(path), str(path))


@cache
def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def files_with(word: str, *programs: str) -> list[Path]:
    """Those of ``python_files`` in which ``word`` stands: the others need not be parsed to know that they lack it."""
    return [path for path in python_files(*programs) if word in text_of(path)]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def attribute_reads(tree: ast.Module, owner: str, name: str) -> Iterator[ast.AST]:
    """``owner.name`` anywhere, and ``from owner import name``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == name and _last_name(node.value) == owner:
            yield node
        if isinstance(node, ast.ImportFrom) and node.module == owner and name in {alias.name for alias in node.names}:
            yield node


def _last_name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def tracked_files() -> list[Path]:
    """Every file that is, or would be, committed: git's own answer, so that what .gitignore names stays out."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    return sorted(path for name in listed.split("\0") if name and (path := ROOT / name).is_file())
