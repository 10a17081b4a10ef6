from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from serving.artifact import (
    TEST_VECTOR,
    TEST_VECTOR_DIGEST,
    ArtifactIrregularError,
    artifact_digest,
    resolve_uri,
    verify_artifact,
)
from serving.errors import StartFailedError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "an artifact"
    for name, content in TEST_VECTOR.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def test_the_test_vector_has_the_digest_that_the_registry_computes_too(tree: Path) -> None:
    assert artifact_digest(tree) == TEST_VECTOR_DIGEST


def test_compiled_files_and_empty_folders_do_not_change_the_digest(tree: Path) -> None:
    (tree / "code" / "__pycache__").mkdir()
    (tree / "code" / "__pycache__" / "m.pyc").write_bytes(b"compiled")
    (tree / "nothing").mkdir()
    assert artifact_digest(tree) == TEST_VECTOR_DIGEST


@pytest.mark.parametrize("change", ["content", "rename", "add", "remove"])
def test_any_change_of_a_file_changes_the_digest(tree: Path, change: str) -> None:
    path = tree / "a" / "x.txt"
    match change:
        case "content":
            path.write_bytes(b"INNER\n")
        case "rename":
            path.rename(tree / "a" / "y.txt")
        case "add":
            (tree / "a" / "empty").touch()
        case _:
            path.unlink()
    assert artifact_digest(tree) != TEST_VECTOR_DIGEST


def test_a_tree_deeper_than_pythons_stack_has_a_digest(tree: Path) -> None:
    here = os.open(tree, os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("d", dir_fd=here)
        here, above = os.open("d", os.O_RDONLY, dir_fd=here), here
        os.close(above)
    os.close(here)
    try:
        assert artifact_digest(tree) == TEST_VECTOR_DIGEST
    finally:  # Python's own removal of a tree recurses too, and pytest would leave it for ever
        subprocess.run(["/bin/rm", "-rf", tree / "d"], check=True)


@pytest.mark.parametrize("target", ["MLmodel", "a"])
def test_a_symbolic_link_has_no_digest(tree: Path, target: str) -> None:
    (tree / "link").symlink_to(tree / target)
    with pytest.raises(ArtifactIrregularError, match="symbolic link"):
        artifact_digest(tree)
    with pytest.raises(StartFailedError, match="digest_mismatch"):
        verify_artifact(str(tree), TEST_VECTOR_DIGEST)


def test_a_plain_path_and_an_escaped_file_uri_name_the_same_folder(tree: Path) -> None:
    assert " " in str(tree)
    assert "%20" in tree.as_uri()
    assert resolve_uri(str(tree)) == resolve_uri(tree.as_uri()) == tree


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("s3://bucket/model", "scheme 's3'"),
        ("models:/late/1", "scheme 'models'"),
        ("file://elsewhere/model", "another host"),
        ("file:///no/such/folder", "does not exist"),
    ],
)
def test_an_artifact_that_is_not_here_says_why(uri: str, reason: str) -> None:
    with pytest.raises(StartFailedError, match=reason) as failure:
        resolve_uri(uri)
    assert failure.value.code == "artifact_missing"
