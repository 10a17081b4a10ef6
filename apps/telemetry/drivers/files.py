"""The inference log's files: a local folder or any fsspec URL; a name never stands for half a file."""

from __future__ import annotations

import hashlib
import io
import os
import re
import secrets
import time
from contextlib import suppress
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from apps.kernel.errors import DriverError

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}(\.[A-Za-z0-9_-]+)*")
PART = ".part-"
STALE_SECONDS = 3600.0


class Damaged(DriverError):
    """A file is not what its row says, or is gone."""


class InferenceFiles:
    """``url`` is a folder or an fsspec URL. Paths are relative to it. Raises DriverError."""

    def __init__(self, url: str) -> None:
        self._fs, self._root = fsspec.core.url_to_fs(url)
        self._root = self._root.rstrip("/")
        protocol = self._fs.protocol
        self._is_local = "file" in ((protocol,) if isinstance(protocol, str) else protocol)

    def write(self, folder: str, name: str, table: pa.Table) -> tuple[str, int, str]:
        """(path, size, digest). Written under another name and renamed; object stores show a whole PUT."""
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        raw = buffer.getvalue()
        digest = hashlib.sha256(raw).hexdigest()
        path = f"{folder}/{name}-{digest[:16]}.parquet"
        whole = f"{self._root}/{path}"
        try:
            self._fs.makedirs(f"{self._root}/{folder}", exist_ok=True)
            if self._is_local:
                part = Path(self._root, folder, f"{PART}{secrets.token_hex(8)}")
                with part.open("wb") as out:
                    out.write(raw)
                    out.flush()
                    os.fsync(out.fileno())
                part.replace(whole)
            else:
                self._fs.pipe_file(whole, raw)
        except OSError as error:
            raise DriverError(
                "inference_log_write", f"The file cannot be written: {error}.", is_retryable=True
            ) from error
        return path, len(raw), f"sha256:{digest}"

    def read(self, path: str, digest: str) -> pa.Table:
        """The table. Raises Damaged when the bytes are not those of the digest."""
        try:
            raw = self._fs.cat_file(f"{self._root}/{path}")
        except FileNotFoundError as error:
            raise Damaged("inference_file_gone", f"{path} is gone.") from error
        except OSError as error:
            raise DriverError("inference_log_read", f"{path} cannot be read: {error}.", is_retryable=True) from error
        if f"sha256:{hashlib.sha256(raw).hexdigest()}" != digest:
            raise Damaged("inference_file_damaged", f"{path} is not what was written.")
        return pq.read_table(pa.BufferReader(raw))

    def remove(self, path: str) -> None:
        """Remove one; gone already is fine."""
        try:
            with suppress(FileNotFoundError):
                self._fs.rm_file(f"{self._root}/{path}")
        except OSError as error:
            raise DriverError(
                "inference_log_remove", f"{path} cannot be removed: {error}.", is_retryable=True
            ) from error

    def sweep(self, known: set[str]) -> int:
        """Remove what a crash left behind: files without a row, older than an hour. Only where the folder is ours alone
        (local); a bucket may be shared, and gets a lifecycle rule instead."""
        if not self._is_local:
            return 0
        removed = 0
        limit = time.time() - STALE_SECONDS
        for found in Path(self._root).rglob("*"):
            is_ours = found.name.startswith(PART) or found.suffix == ".parquet"
            if is_ours and str(found.relative_to(self._root)) not in known:
                with suppress(FileNotFoundError):
                    if found.stat().st_mtime < limit:
                        found.unlink()
                        removed += 1
        return removed


def folder_of(endpoint: str, variant: str, day: str) -> str:
    """Names come from the data plane: what is no plain name must not become a path."""
    return f"{_safe(endpoint)}/{_safe(variant)}/{day}"


def _safe(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else "x-" + hashlib.sha256(name.encode()).hexdigest()[:24]
