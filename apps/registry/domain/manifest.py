"""The canonical manifest of an artifact's files, and the digest that is its SHA-256 (docs/concepts/contracts.md, 4)."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

MAX_FILES = 100_000
MAX_BYTES = 64 * 1024 * 1024
_LINE = re.compile(rb"([0-9a-f]{64})  (\d{1,18})  ([^\n]+)", re.ASCII)
_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{64})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Entry:
    """One file: its path (POSIX, relative; undecodable bytes as surrogates), its size and SHA-256 in hex."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """Files in the order of their paths' bytes."""

    entries: tuple[Entry, ...]

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Manifest:
        return cls(tuple(sorted(entries, key=lambda one: os.fsencode(one.path))))

    @classmethod
    def parse(cls, text: bytes) -> Manifest:
        """Raises ValueError for what ``text`` never produced."""
        entries = []
        for line in text.split(b"\n")[:-1]:
            match = _LINE.fullmatch(line)
            if match is None:
                raise ValueError("a line of the manifest cannot be read")
            entries.append(Entry(os.fsdecode(match[3]), int(match[2]), match[1].decode("ascii")))
        found = cls(tuple(entries))
        if found.text() != text:
            raise ValueError("the manifest is not canonical")
        return found

    def text(self) -> bytes:
        """``<sha256 of the file>  <size>  <path>`` per file, each with a line end."""
        return b"".join(
            b"%s  %d  %s\n" % (one.sha256.encode("ascii"), one.size, os.fsencode(one.path)) for one in self.entries
        )

    @property
    def digest(self) -> str:
        """``sha256:<hex>``."""
        return f"sha256:{hashlib.sha256(self.text()).hexdigest()}"

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(one.size for one in self.entries)

    def file(self, path: str) -> Entry | None:
        return next((one for one in self.entries if one.path == path), None)

    def listing(self, folder: str = "") -> list[tuple[str, bool, int]] | None:
        """(name, is_dir, size) directly below ``folder``, by name; None when there is no such folder."""
        prefix = f"{folder}/" if folder else ""
        found: dict[str, tuple[bool, int]] = {}
        for one in self.entries:
            if one.path.startswith(prefix):
                name, _, below = one.path[len(prefix) :].partition("/")
                found[name] = (bool(below), 0 if below else one.size)
        if not found and folder:
            return None
        return [(name, *found[name]) for name in sorted(found)]


def hex_of(digest: str) -> str | None:
    """The 64 digits of ``sha256:<hex>`` or ``<hex>``; None for anything else."""
    match = _DIGEST.fullmatch(digest)
    return match.group(1) if match else None


def is_left_out(path: str) -> bool:
    """Compiled Python is no part of an artifact: ``__pycache__`` folders and ``*.pyc`` (never a bare ``.pyc``)."""
    *folders, name = path.split("/")
    return "__pycache__" in folders or (name.endswith(".pyc") and name != ".pyc")
