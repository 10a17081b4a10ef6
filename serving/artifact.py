"""Where a model artifact lies and what it must be, byte for byte.

The digest is `sha256:` + hex SHA-256 over the canonical manifest: for every regular file below the folder, sorted by
the bytes of its POSIX relative path, the line `<sha256 hex of the file>  <size>  <path>\n`. `__pycache__` folders and
`*.pyc` are left out; a symbolic link is an error. The registry computes the same digest with its own copy of this
algorithm (docs/concepts/contracts.md section 4); TEST_VECTOR holds both to the same answer.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from urllib.parse import unquote, urlsplit

from serving.errors import StartCode, StartFailedError

# The tree below has this digest. Paths chosen so that sorting by bytes differs from sorting by folder
# ("a-b/x" < "a/x") and from sorting without case.
TEST_VECTOR: Mapping[str, bytes] = MappingProxyType(
    {
        "MLmodel": b"flavors: {}\n",
        "a/x.txt": b"inner\n",
        "a-b/x.txt": b"",
        "code/modèle.py": b"print('h\xc3\xa9')\n",
        "a/__pycache__/x.cpython-311.pyc": b"left out",
        "stale.pyc": b"left out",
    }
)
TEST_VECTOR_DIGEST = "sha256:502807e06929414e98d9b4c57f49fd75a2e349c0d44db282992dfe64818e9cd1"


class ArtifactIrregularError(ValueError):
    """The folder holds something that has no canonical bytes: a symbolic link, a socket, a device."""


def resolve_uri(uri: str) -> Path:
    """The local folder of a `file://` URI or a plain path. Raises StartFailedError(artifact_missing)."""
    parts = urlsplit(uri)
    if parts.scheme not in ("", "file"):
        raise StartFailedError(
            StartCode.ARTIFACT_MISSING,
            f"artifact_uri has scheme {parts.scheme!r}; this server reads file:// URIs and plain paths, so fetch the "
            "artifact to a local folder first",
        )
    if parts.scheme == "file" and parts.netloc not in ("", "localhost"):
        raise StartFailedError(StartCode.ARTIFACT_MISSING, f"artifact_uri names another host: {parts.netloc!r}")
    path = Path(unquote(parts.path)) if parts.scheme == "file" else Path(uri)
    if not path.is_dir():
        raise StartFailedError(StartCode.ARTIFACT_MISSING, f"the artifact folder {path} does not exist")
    return path


def artifact_digest(folder: Path) -> str:
    """The digest of a folder, as `sha256:<hex>`. Raises ArtifactIrregularError, OSError."""
    manifest = hashlib.sha256()
    for relative, path in sorted((os.fsencode(path.relative_to(folder).as_posix()), path) for path in _files(folder)):
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        manifest.update(f"{content}  {path.stat().st_size}  ".encode() + relative + b"\n")
    return f"sha256:{manifest.hexdigest()}"


def _files(folder: Path) -> Iterator[Path]:
    folders = [folder]  # no recursion: a tree may be deeper than Python's stack
    while folders:
        for entry in folders.pop().iterdir():
            if entry.is_symlink():
                raise ArtifactIrregularError(f"{entry} is a symbolic link")
            if entry.is_dir():
                if entry.name != "__pycache__":
                    folders.append(entry)
            elif not entry.is_file():
                raise ArtifactIrregularError(f"{entry} is not a regular file")
            elif entry.suffix != ".pyc":
                yield entry


def verify_artifact(uri: str, expected_digest: str) -> Path:
    """The local folder, after its digest was compared. Raises StartFailedError(artifact_missing | digest_mismatch)."""
    folder = resolve_uri(uri)
    try:
        found = artifact_digest(folder)
    except ArtifactIrregularError as error:
        raise StartFailedError(StartCode.DIGEST_MISMATCH, f"the artifact has no digest: {error}") from error
    except OSError as error:
        raise StartFailedError(StartCode.ARTIFACT_MISSING, f"the artifact cannot be read: {error}") from error
    if found != expected_digest:
        raise StartFailedError(
            StartCode.DIGEST_MISMATCH, f"the artifact {folder} has digest {found}, the plan says {expected_digest}"
        )
    return folder
