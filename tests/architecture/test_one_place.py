"""What may stand in one file only: the environment, the clock. And what may stand in none."""

from __future__ import annotations

import ast
import re

import pytest

from tests.architecture.sources import ROOT, attribute_reads, files_with, relative, text_of, tracked_files, tree_of

SETTINGS_FILES = {
    "agent/settings.py",
    "cli/session.py",
    "controlplane/env.py",
    "embedded/settings.py",
    "serving/settings.py",
}
# Django and Celery find their settings by this one variable; whoever starts them names it and reads nothing.
NAMING_DJANGO = 'os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")'


def environment_lines(source: str) -> list[str]:
    tree = ast.parse(source)
    nodes = [*attribute_reads(tree, "os", "environ"), *attribute_reads(tree, "os", "getenv")]
    lines = source.splitlines()
    return [lines[node.lineno - 1].strip() for node in nodes]  # type: ignore[attr-defined]


def test_the_environment_is_read_in_one_settings_file_per_program() -> None:
    wrong = [
        f"{relative(path)}: {line}"
        for path in {*files_with("environ"), *files_with("getenv")}
        if relative(path) not in SETTINGS_FILES
        for line in environment_lines(text_of(path))
        if line != NAMING_DJANGO
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "text", ["import os\nx = os.environ['A']", "from os import environ", "import os\nos.getenv('A')"]
)
def test_every_way_to_read_the_environment_is_seen(text: str) -> None:
    assert len(environment_lines(text)) == 1


CLOCKS = (("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today"), ("timezone", "now"))


def test_the_control_plane_asks_for_the_time_in_one_file() -> None:
    wrong = [
        f"{relative(path)}: {owner}.{name}"
        for owner, name in CLOCKS
        for path in files_with(owner, "apps", "controlplane", "worker")
        if relative(path) != "apps/kernel/clock.py" and name in text_of(path)
        for _ in attribute_reads(tree_of(path), owner, name)
    ]
    assert wrong == []
    assert any(attribute_reads(tree_of(ROOT / "apps/kernel/clock.py"), "datetime", "now"))


TEXT_SUFFIXES = {
    *(".cfg", ".css", ".html", ".in", ".ini", ".js", ".json", ".lock", ".md", ".mjs", ".py", ".sh", ".svg", ".toml"),
    *(".txt", ".yaml", ".yml", ""),
}
# Written in two parts so that this file is not the one it finds.
MACHINE_PATHS = ("/wo" + "rk/", "/ro" + "ot/")
DEFAULT_PASSWORDS = re.compile(
    r"""(?ix) \b (?: password | passwd | secret | secret_key | token | api_key ) ["']? \s* [:=] \s* ["']
        (?P<value> [a-z0-9!@#$%^&*_-]{4,} ) ["']"""
)
# Words in a secret's place that are no secret: names of fields, forms and files, and what says itself that it is one.
NO_SECRET = re.compile(r"(?i)^(?:text|password|token|secret|csrf\w*|current-password|new-password|.*only.*|x+)$")
OURS = {"agent", "apps", "cli", "controlplane", "demo", "deploy", "embedded", "frontend", "serving", "worker", ".ci"}


def texts() -> dict[str, str]:
    return {
        relative(path): path.read_text(encoding="utf-8")
        for path in tracked_files()
        if path.suffix in TEXT_SUFFIXES and path.stat().st_size < 2_000_000
    }


def test_no_file_names_a_path_of_the_machine_it_was_written_on() -> None:
    found = texts()
    assert "pyproject.toml" in found
    assert [f"{name}: {path}" for name, text in found.items() for path in MACHINE_PATHS if path in text] == []


def default_secrets(text: str) -> list[str]:
    return [match["value"] for match in DEFAULT_PASSWORDS.finditer(text) if not NO_SECRET.match(match["value"])]


def test_no_program_carries_a_default_password() -> None:
    wrong = {
        name: secrets
        for name, text in texts().items()
        if (name.split("/")[0] in OURS or "/" not in name) and (secrets := default_secrets(text))
    }
    assert wrong == {}


@pytest.mark.parametrize("text", ['password = "admin"', "'token': 'changeme'", 'SECRET_KEY: "django-insecure-1"'])
def test_a_default_password_would_be_found(text: str) -> None:
    assert default_secrets(text) != []
