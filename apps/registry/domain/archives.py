"""Zip archives read for their table of contents only; nothing is unpacked. What is wrong with one is a sentence."""

from __future__ import annotations

import stat
import struct
import zipfile
from typing import BinaryIO

MAX_ENTRIES = 20_000
MAX_DIRECTORY_BYTES = 8 * 1024 * 1024
MAX_UNPACKED_BYTES = 256 * 1024**3
MAX_RATIO = 200
RATIO_COUNTS_FROM_BYTES = 64 * 1024 * 1024
_END = b"PK\x05\x06"
_END_BYTES = 22
_TAIL = 65_557  # the end record and the longest comment


class BadArchive(ValueError):
    """The archive is refused; the text is a sentence."""


def open_zip(stream: BinaryIO, size: int) -> zipfile.ZipFile:
    """The archive, its table of contents checked. Raises BadArchive."""
    _check_directory(stream, size)
    try:
        archive = zipfile.ZipFile(stream)
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, NotImplementedError, struct.error) as error:
        raise BadArchive(f"It looks like a zip archive and cannot be read as one ({type(error).__name__}).") from error
    _check_entries(archive.infolist(), size)
    return archive


def read_member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """One small member, at most ``limit`` bytes whatever its header says. Raises BadArchive."""
    try:
        with archive.open(name) as stream:
            data = stream.read(limit + 1)
    except Exception as error:
        # zlib.error, BadZipFile, NotImplementedError, RuntimeError (encrypted), EOFError: zipfile has no common root
        raise BadArchive(f"Its member {name} cannot be read ({type(error).__name__}).") from error
    if len(data) > limit:
        raise BadArchive(f"Its member {name} is larger than {limit:,} bytes.")
    return data


def _check_directory(stream: BinaryIO, size: int) -> None:
    """Before zipfile reads the whole table of contents into memory: how large does it say it is?"""
    start = max(0, size - _TAIL)
    stream.seek(start)
    tail = stream.read(_TAIL)
    place = tail.rfind(_END)
    if place < 0 or len(tail) - place < _END_BYTES:
        raise BadArchive("It begins like a zip archive and has no end record.")
    entries, directory = struct.unpack("<HI", tail[place + 10 : place + 16])
    locator = tail[place - 20 : place] if place >= 20 else b""
    if locator[:4] == b"PK\x06\x07":
        (offset,) = struct.unpack("<Q", locator[8:16])
        stream.seek(offset if offset < size else 0)
        record = stream.read(56)
        if record[:4] == b"PK\x06\x06" and len(record) == 56:
            entries, directory = struct.unpack("<QQ", record[32:48])
    stream.seek(0)
    if entries > MAX_ENTRIES or directory > MAX_DIRECTORY_BYTES:
        raise BadArchive(f"It has {entries:,} entries; at most {MAX_ENTRIES:,} are looked at.")


def _check_entries(entries: list[zipfile.ZipInfo], size: int) -> None:
    if len(entries) > MAX_ENTRIES:
        raise BadArchive(f"It has {len(entries):,} entries; at most {MAX_ENTRIES:,} are looked at.")
    seen: set[str] = set()
    for entry in entries:
        problem = path_problem(entry.filename.rstrip("/"))
        if problem:
            raise BadArchive(f"Its entry {entry.filename[:80]!r} {problem}.")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise BadArchive(f"Its entry {entry.filename[:80]!r} is a symbolic link.")
        if entry.flag_bits & 1:
            raise BadArchive(f"Its entry {entry.filename[:80]!r} is encrypted.")
        if entry.filename in seen:
            raise BadArchive(f"It has the entry {entry.filename[:80]!r} twice; readers differ on which one counts.")
        seen.add(entry.filename)
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > MAX_UNPACKED_BYTES or (unpacked > RATIO_COUNTS_FROM_BYTES and unpacked > MAX_RATIO * max(size, 1)):
        raise BadArchive(f"It unpacks to {unpacked:,} bytes from {size:,}: an archive bomb.")


def path_problem(path: str) -> str:
    """Why a relative POSIX path may not name a file of an artifact; "" when it may."""
    if not path or path.startswith("/") or "\\" in path or (len(path) > 1 and path[1] == ":"):
        return "is no relative path"
    if any(ord(character) < 32 or ord(character) == 127 for character in path):
        return "has control characters"
    if len(path) > 1000 or path.count("/") > 40:
        return "is too long or too deep"
    if any(part in {"", ".", ".."} for part in path.split("/")):
        return "leads out of the artifact or is not in its shortest form"
    return ""
