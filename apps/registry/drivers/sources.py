"""Reading a source once: every file into the store, the manifest that this gives, and proof that it stood still."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

import fsspec

from apps.kernel.errors import InvalidInput, Unavailable
from apps.registry.domain.archives import path_problem
from apps.registry.domain.inspection import FileLook
from apps.registry.domain.manifest import MAX_FILES, Entry, Manifest, is_left_out
from apps.registry.drivers.artifacts import changed, check_unchanged, folder_stamps, open_regular
from apps.registry.drivers.store import ArtifactStore

SCHEMES = frozenset({"file", "s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "hdfs", "memory"})
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.ASCII)


class Deadline:
    """Raises Unavailable once ``seconds`` have passed since it was made; called with every piece read."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._end = seconds, time.monotonic() + seconds

    def __call__(self, _: int = 0) -> None:
        if time.monotonic() > self._end:
            raise Unavailable(
                "artifact_too_slow", f"Reading the artifact took longer than {self._seconds:.0f} seconds."
            )


def folder_ingest(folder: Path, store: ArtifactStore, deadline: Deadline) -> Manifest:
    """A local folder into the store. Raises InvalidInput (irregular, changed, missing) and Unavailable."""
    try:
        before = folder_stamps(folder)
        entries = []
        for path, stamp in before.items():
            with open_regular(path) as stream:
                sha256, size, _ = store.blob_add(stream, tick=deadline)
            if size != stamp[0]:
                raise changed(path)
            entries.append(Entry(path.relative_to(folder).as_posix(), size, sha256))
        check_unchanged(folder, before)
    except OSError as error:
        raise _missing(f"The artifact cannot be read: {error.strerror}, {error.filename}.") from error
    return Manifest.of(entries)


def url_ingest(url: str, store: ArtifactStore, deadline: Deadline) -> Manifest:
    """An fsspec URL into the store, by what this process may read there. Raises InvalidInput and Unavailable.

    Only for URLs that settings allow: this follows what it is given.
    """
    scheme = _SCHEME.match(url)
    if scheme is None or scheme.group(1) not in SCHEMES or "::" in url:
        raise _missing(f"{url[:200]} is no address that artifacts are read from.")
    try:
        fs, root = fsspec.core.url_to_fs(url)
        listed = _listed(fs.find(root, detail=True), root.rstrip("/"))
        entries = []
        for path, place, expected in listed:
            with cast(BinaryIO, fs.open(place, "rb")) as stream:
                sha256, size, _ = store.blob_add(stream, tick=deadline)
            if size != expected:
                raise changed(place)
            entries.append(Entry(path, size, sha256))
    except ImportError as error:
        raise _missing(f"Reading {scheme.group(1)}:// needs a package that is not installed: {error}.") from error
    except FileNotFoundError as error:
        raise _missing(f"There is nothing at {url[:200]}.") from error
    except OSError as error:
        raise Unavailable(
            "source_unavailable", f"{url[:200]} cannot be read now ({type(error).__name__}).", is_retryable=True
        ) from error
    return Manifest.of(entries)


def looks_of(manifest: Manifest, opened: Callable[[Entry], BinaryIO]) -> list[FileLook]:
    """The files of a manifest as inspection sees them."""
    return [FileLook(one.path, one.size, _bound(opened, one)) for one in manifest.entries]


def _bound(opened: Callable[[Entry], BinaryIO], one: Entry) -> Callable[[], BinaryIO]:
    return lambda: opened(one)


def _listed(found: dict[str, dict[str, object]], root: str) -> list[tuple[str, str, int]]:
    if len(found) > MAX_FILES:
        raise InvalidInput.at("/path", "artifact_irregular", f"It has more than {MAX_FILES:,} files; pack them.")
    listed = []
    for place, about in sorted(found.items()):
        path = place[len(root) :].lstrip("/") if place.startswith(root) else place
        if about.get("type") != "file" or about.get("islink") or is_left_out(path):
            if about.get("islink"):
                raise InvalidInput.at("/path", "artifact_irregular", f"{path} is a symbolic link.")
            continue
        problem = path_problem(path)
        if problem:
            raise InvalidInput.at("/path", "artifact_irregular", f"The file {path[:200]!r} {problem}.")
        listed.append((path, place, int(str(about.get("size") or 0))))
    if not listed:
        raise _missing("There are no files at the source.")
    return listed


def _missing(detail: str) -> InvalidInput:
    return InvalidInput.at("/path", "artifact_missing", detail)
