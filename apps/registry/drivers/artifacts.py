"""A model artifact on disk: its digest and what its ``MLmodel`` says. Nothing is unpickled, mlflow is not imported.

The digest is the one of docs/concepts/contracts.md section 4; the serving program has its own copy of the algorithm,
and tests/registry/test_artifacts.py holds both to the same answers.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import unquote, urlsplit

from apps.kernel.errors import FieldError, InvalidInput
from apps.registry.domain.inspection import FileLook, Inspection, inspect_files
from apps.registry.domain.manifest import MAX_FILES, Entry, Manifest
from apps.registry.domain.mlmodel import MAX_BYTES, describe_mlmodel

MAX_DEPTH = 40
Progress = Callable[[int, int], None]
"""Called with (files, bytes) done so far; may raise to stop."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """What registration keeps of an artifact; the forms are those of ``ModelVersion``."""

    uri: str
    digest: str
    size_bytes: int
    flavor: str
    signature: dict[str, Any]
    input_constraints: dict[str, Any]


def read_artifact(path: str | Path) -> Artifact:
    """Everything about the artifact at a path or ``file://`` URI. Raises InvalidInput at ``/path``."""
    folder = locate(path)
    # Before hashing: a folder that is no model (say, /) must not be read through.
    described = describe_mlmodel(read_mlmodel(folder))
    digest, size = digest_and_size(folder)
    return Artifact(
        uri=folder.as_uri(),
        digest=digest,
        size_bytes=size,
        flavor=described.flavor,
        signature=described.signature,
        input_constraints=described.input_constraints,
    )


def read_inspected(path: str | Path) -> tuple[Artifact, Inspection, tuple[str, ...]]:
    """``read_artifact`` together with what its files are and the code folders that MLmodel declares.

    One state of the folder: whatever changes between the first look and the last is ``artifact_changed``.
    Raises InvalidInput at ``/path``.
    """
    folder = locate(path)
    described = describe_mlmodel(read_mlmodel(folder))
    try:
        before = folder_stamps(folder)
        inspection = inspect_files(folder_looks(folder))
        artifact = read_artifact(folder)
        check_unchanged(folder, before)
    except OSError as error:
        raise _fault("artifact_missing", f"The artifact cannot be read: {error.strerror}, {error.filename}.") from error
    return artifact, inspection, tuple(described.code)


def locate(path: str | Path) -> Path:
    """The absolute folder. Raises InvalidInput ``artifact_missing``."""
    text = str(path)
    parts = urlsplit(text)
    if parts.scheme not in {"", "file"} or (parts.scheme == "file" and parts.netloc not in {"", "localhost"}):
        raise _fault("artifact_missing", f"{text} is not a folder of this machine; give a path or a file:// URI.")
    folder = Path(unquote(parts.path)) if parts.scheme == "file" else Path(text)
    if "\0" in text or not folder.is_absolute():
        raise _fault("artifact_missing", f"{text!r} is not an absolute path.")
    if not folder.is_dir():
        raise _fault("artifact_missing", f"The folder {folder} does not exist or is not readable.")
    return folder.resolve()


def digest_and_size(folder: Path, *, progress: Progress | None = None) -> tuple[str, int]:
    """``sha256:<hex>`` of the canonical manifest and the bytes it covers. Raises InvalidInput."""
    manifest = folder_manifest(folder, progress=progress)
    return manifest.digest, manifest.size


def folder_manifest(folder: Path, *, progress: Progress | None = None) -> Manifest:
    """The manifest of a folder that does not change meanwhile. Raises InvalidInput.

    1. list; 2. hash each file, its own stamp compared before and after; 3. list again: a file that came, went or was
    replaced means that the manifest describes no state the folder ever had (``artifact_changed``, a retry can help).
    """
    try:
        before = folder_stamps(folder)
        entries, total = [], 0
        for done, path in enumerate(before, 1):
            entry = _hash_file(path, path.relative_to(folder).as_posix())
            entries.append(entry)
            total += entry.size
            if progress is not None:
                progress(done, total)
        check_unchanged(folder, before)
    except OSError as error:
        raise _fault("artifact_missing", f"The artifact cannot be read: {error.strerror}, {error.filename}.") from error
    return Manifest.of(entries)


Stamp = tuple[int, int, int]


def folder_stamps(folder: Path) -> dict[Path, Stamp]:
    """Every file of the artifact with (size, time of change, inode). Raises InvalidInput and OSError."""
    found: dict[Path, Stamp] = {}
    for path, state in _files(folder, 0):
        found[path] = _stamp(state)
        if len(found) > MAX_FILES:
            raise _fault("artifact_irregular", f"{folder} has more than {MAX_FILES:,} files; pack them into fewer.")
    return found


def check_unchanged(folder: Path, before: dict[Path, Stamp]) -> None:
    """Raises InvalidInput ``artifact_changed`` when the folder is not what it was."""
    after = folder_stamps(folder)
    for path in sorted(before.keys() | after.keys()):
        if before.get(path) != after.get(path):
            raise changed(path)


def folder_looks(folder: Path) -> list[FileLook]:
    """The files as inspection sees them. Raises InvalidInput and OSError."""
    return [
        FileLook(path.relative_to(folder).as_posix(), stamp[0], _opener(path))
        for path, stamp in folder_stamps(folder).items()
    ]


def open_regular(path: Path) -> BinaryIO:
    """The file itself: a link is not followed, a pipe not waited for. Raises OSError."""
    # O_NONBLOCK: opening a pipe that took the file's place would wait for a writer for ever.
    stream = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise OSError(0, "not a regular file", str(path))
    return stream


def read_mlmodel(folder: Path) -> bytes:
    """The bytes of MLmodel. Raises InvalidInput ``mlmodel_missing`` or ``mlmodel_invalid``."""
    path = folder / "MLmodel"
    if path.is_symlink() or not path.is_file():
        raise _fault(
            "mlmodel_missing", f"{folder} has no MLmodel file; give the folder that mlflow saved the model to."
        )
    try:
        with open_regular(path) as stream:
            return stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise _fault("mlmodel_invalid", f"{path} cannot be read: {error.strerror}.") from error


def _opener(path: Path) -> Callable[[], BinaryIO]:
    return lambda: open_regular(path)


def _stamp(state: os.stat_result) -> Stamp:
    return state.st_size, state.st_mtime_ns, state.st_ino


def _hash_file(path: Path, relative: str) -> Entry:
    with open_regular(path) as stream:
        before = _stamp(os.fstat(stream.fileno()))
        content = hashlib.file_digest(cast(BufferedReader, stream), "sha256").hexdigest()
        if _stamp(os.fstat(stream.fileno())) != before or stream.tell() != before[0]:
            raise changed(path)
        return Entry(relative, before[0], content)


def _files(folder: Path, depth: int) -> Iterator[tuple[Path, os.stat_result]]:
    if depth > MAX_DEPTH:
        raise _fault("artifact_irregular", f"{folder} is nested deeper than {MAX_DEPTH} folders.")
    with os.scandir(folder) as entries:
        for entry in entries:
            state = entry.stat(follow_symlinks=False)
            if stat.S_ISLNK(state.st_mode):
                raise _fault("artifact_irregular", f"{entry.path} is a symbolic link; an artifact holds only files.")
            if stat.S_ISDIR(state.st_mode):
                if entry.name != "__pycache__":
                    yield from _files(Path(entry.path), depth + 1)
            elif not stat.S_ISREG(state.st_mode):
                raise _fault("artifact_irregular", f"{entry.path} is not a regular file.")
            elif Path(entry.name).suffix != ".pyc":
                if "\n" in entry.name:
                    raise _fault("artifact_irregular", f"{entry.path!r} has a line end in its name.")
                yield Path(entry.path), state


def changed(path: Path | str) -> InvalidInput:
    """A source that moves while it is read."""
    detail = f"{path} changed while it was read; register the artifact once its job has finished writing."
    return InvalidInput(
        "artifact_changed", detail, fields=(FieldError("/path", "artifact_changed", detail),), is_retryable=True
    )


def _fault(code: str, detail: str) -> InvalidInput:
    return InvalidInput.at("/path", code, detail)
