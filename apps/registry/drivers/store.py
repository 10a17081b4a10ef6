"""The artifact store: blobs by SHA-256 and manifests by the digest of their tree, in any place that fsspec knows.

    blobs/9f/9f86d0…     one file's bytes, under the SHA-256 of exactly these bytes
    trees/50/502807…     a canonical manifest, under its own SHA-256, which is the artifact's digest
    parts/…              what is being written; a crash leaves nothing else behind

A blob is written under a temporary name and renamed, so that a name never stands for half a file. The same bytes are
kept once. Reading compares: a blob that is not what its name says is never handed out to its end. Nothing is deleted;
what is damaged goes to ``damaged/``.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec

from apps.kernel.errors import InvalidInput, Unavailable
from apps.registry.domain.inspection import FileLook
from apps.registry.domain.manifest import MAX_BYTES, Entry, Manifest, hex_of
from apps.registry.drivers.artifacts import folder_manifest

CHUNK = 1024 * 1024
READ_FIRST_BYTES = 4 * CHUNK
"""Files up to this size are compared as a whole before the first byte is handed out."""


class Damaged(Exception):
    """What lies in the store is not what its name says, or is gone. ``sha256`` names the blob or tree."""

    def __init__(self, sha256: str, detail: str) -> None:
        super().__init__(detail)
        self.sha256 = sha256


class ArtifactStore:
    """One store. ``url`` is a folder (``file:///…`` or a path) or any fsspec URL; ``checkouts`` a local folder."""

    def __init__(self, url: str, checkouts: Path) -> None:
        self.url = url
        self._checkouts = checkouts
        self._fs, self._root = fsspec.core.url_to_fs(url)
        self._root = self._root.rstrip("/")
        self._parts = f"{self._root}/parts"
        protocol = self._fs.protocol
        self.is_local = "file" in ((protocol,) if isinstance(protocol, str) else protocol)

    # --- blobs -------------------------------------------------------------------------------------------------
    def blob_add(
        self, stream: BinaryIO, *, limit: int | None = None, tick: Callable[[int], None] | None = None
    ) -> tuple[str, int, bool]:
        """Keep a stream: (SHA-256, size, whether it is new). Raises ValueError above ``limit`` and Unavailable."""
        part = f"{self._parts}/{secrets.token_hex(16)}"
        hasher, size = hashlib.sha256(), 0
        try:
            self._fs.makedirs(self._parts, exist_ok=True)
            with self._fs.open(part, "wb") as out:
                while chunk := stream.read(CHUNK):
                    hasher.update(chunk)
                    size += len(chunk)
                    if limit is not None and size > limit:
                        raise ValueError(f"more than {limit:,} bytes")
                    out.write(chunk)
                    if tick is not None:
                        tick(len(chunk))
                self._flush(out)
            sha256 = hasher.hexdigest()
            return sha256, size, self._settle(part, self._blob(sha256), size)
        except OSError as error:
            raise _unavailable(error) from error
        finally:
            with suppress(OSError):
                self._fs.rm_file(part)

    def blob_has(self, sha256: str, size: int) -> bool:
        """Whether the blob lies here with that size; its bytes are compared when it is read."""
        return self._size(self._blob(sha256)) == size

    def blob_open(self, sha256: str) -> BinaryIO:
        """The blob, seekable, not compared: for inspection only. Raises Damaged when it is not there."""
        try:
            return cast(BinaryIO, self._fs.open(self._blob(sha256), "rb"))
        except FileNotFoundError as error:
            raise Damaged(sha256, "a file of the artifact is missing in the store") from error
        except OSError as error:
            raise _unavailable(error) from error

    def blob_read(self, sha256: str, size: int) -> Iterator[bytes]:
        """The blob in pieces, compared on the way; the last piece is held back until the hash agrees. Raises Damaged.

        A small file is compared before its first byte. Of a large one a damaged copy yields all but its end, so that
        no reader who counts or compares takes it for whole.
        """
        return verified(self.blob_open(sha256), sha256, size)

    # --- trees -------------------------------------------------------------------------------------------------
    def tree_add(self, manifest: Manifest) -> bool:
        """Keep a manifest; False when it was there. Its blobs need not be here."""
        text = manifest.text()
        name = hex_of(manifest.digest) or ""
        part = f"{self._parts}/{secrets.token_hex(16)}"
        try:
            self._fs.makedirs(self._parts, exist_ok=True)
            with self._fs.open(part, "wb") as out:
                out.write(text)
                self._flush(out)
            return self._settle(part, self._tree(name), len(text))
        except OSError as error:
            raise _unavailable(error) from error
        finally:
            with suppress(OSError):
                self._fs.rm_file(part)

    def tree_get(self, digest: str) -> Manifest | None:
        """The manifest of a digest; None when it is not here. Raises Damaged when it is not what its name says."""
        name = hex_of(digest)
        if name is None:
            return None
        try:
            size = self._size(self._tree(name))
            if size < 0:
                return None
            with self._fs.open(self._tree(name), "rb") as stream:
                text = stream.read(min(size, MAX_BYTES))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unavailable(error) from error
        if hashlib.sha256(text).hexdigest() != name:
            raise Damaged(name, "the manifest in the store was changed")
        return Manifest.parse(text)

    def looks(self, manifest: Manifest) -> list[FileLook]:
        """The files of a tree whose blobs are here, as inspection sees them."""
        return [FileLook(one.path, one.size, self._opener(one.sha256)) for one in manifest.entries]

    # --- folders -----------------------------------------------------------------------------------------------
    def checkout(self, manifest: Manifest) -> Path:
        """A local folder with the tree's files, made once: links to the blobs where the store is local, else copies.

        Raises Damaged and Unavailable.
        """
        name = hex_of(manifest.digest) or ""
        final = self._checkouts / name
        if final.is_dir():
            if self._is_whole(final, manifest):
                return final
            # Somebody wrote into it. It goes aside under a name that no version points at.
            final.rename(self._checkouts / f".{name}.damaged.{secrets.token_hex(8)}")
        part = self._checkouts / f".{name}.{secrets.token_hex(8)}"
        try:
            self.fetch(manifest, part, link=True)
            with suppress(OSError):  # another worker was first: its folder is the same
                part.rename(final)
        except OSError as error:
            raise _unavailable(error) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return final

    def fetch(self, manifest: Manifest, folder: Path, *, link: bool = False) -> None:
        """Write the tree's files below ``folder``, which must not exist. Raises Damaged, Unavailable, OSError."""
        folder.mkdir(parents=True)
        for one in manifest.entries:
            place = folder / one.path
            place.parent.mkdir(parents=True, exist_ok=True)
            if link and self.is_local and self._link(one, place):
                continue
            with place.open("xb") as out:
                for chunk in self.blob_read(one.sha256, one.size):
                    out.write(chunk)
            place.chmod(0o444)

    def set_aside(self, sha256: str) -> None:
        """Take a damaged blob out of the way, so that the next ingest of these bytes puts a whole one in its place."""
        with suppress(OSError):
            self._fs.makedirs(f"{self._root}/damaged", exist_ok=True)
            self._fs.mv(self._blob(sha256), f"{self._root}/damaged/{sha256}.{secrets.token_hex(8)}")

    @staticmethod
    def _is_whole(folder: Path, manifest: Manifest) -> bool:
        try:
            return folder_manifest(folder) == manifest
        except InvalidInput:
            return False

    def _link(self, one: Entry, place: Path) -> bool:
        """A second name for the blob; False where the file system cannot. Its bytes are compared first."""
        for _ in self.blob_read(one.sha256, one.size):
            pass
        try:
            os.link(self._blob(one.sha256), place)
        except OSError:
            return False
        return True

    # --- places ------------------------------------------------------------------------------------------------
    def _blob(self, sha256: str) -> str:
        return f"{self._root}/blobs/{sha256[:2]}/{sha256}"

    def _tree(self, name: str) -> str:
        return f"{self._root}/trees/{name[:2]}/{name}"

    def _opener(self, sha256: str) -> Callable[[], BinaryIO]:
        return lambda: self.blob_open(sha256)

    def _size(self, place: str) -> int:
        """-1 when nothing is there."""
        try:
            return int(self._fs.info(place)["size"])
        except FileNotFoundError:
            return -1
        except OSError as error:
            raise _unavailable(error) from error

    def _settle(self, part: str, final: str, size: int) -> bool:
        """Give the finished file its name; False when it lies there already, whole."""
        if self._size(final) == size:
            return False
        self._fs.makedirs(final.rpartition("/")[0], exist_ok=True)
        if self.is_local:
            Path(part).chmod(0o444)
            Path(part).replace(final)  # atomic, also over a damaged copy
        else:
            self._fs.mv(part, final)
        return True

    def _flush(self, out: Any) -> None:
        if self.is_local:
            out.flush()
            os.fsync(out.fileno())


def verified(stream: BinaryIO, sha256: str, size: int) -> Iterator[bytes]:
    """``stream`` in pieces as ``blob_read`` says; closes it. Raises Damaged and Unavailable."""
    hasher, seen, held = hashlib.sha256(), 0, b""
    with stream:
        while True:
            try:
                chunk = stream.read(READ_FIRST_BYTES if not seen else CHUNK)
            except OSError as error:
                raise _unavailable(error) from error
            hasher.update(chunk)
            seen += len(chunk)
            if not chunk or seen > size:
                break
            if held:
                yield held
            held = chunk
    if seen != size or hasher.hexdigest() != sha256:
        raise Damaged(sha256, "a file of the artifact was changed in the store")
    if held:
        yield held


def _unavailable(error: OSError) -> Unavailable:
    return Unavailable(
        "artifact_store_unavailable",
        f"The artifact store cannot be used ({error.strerror or type(error).__name__}); nothing changed, try again.",
        is_retryable=True,
    )
