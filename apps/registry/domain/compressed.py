"""A compressed stream read with a leash: it ends in an error before a bomb can fill memory or time."""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO, cast

MAX_RATIO = 500
RATIO_COUNTS_FROM_BYTES = 64 * 1024 * 1024
MAX_BYTES = 4 * 1024**3
_CHUNK = 64 * 1024


class Bomb(ValueError):
    """The stream unpacks to far more than it is; the text is a sentence."""


class _Inflating(io.RawIOBase):
    """Unpacks ``stream`` piece by piece; at most one piece of output is in memory."""

    def __init__(self, stream: BinaryIO, unpacker: Any) -> None:
        self._stream, self._unpacker = stream, unpacker
        self._taken, self._given = 0, 0
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), _CHUNK)
        data = b""
        while not data:
            if self._unpacker.eof:
                return 0
            if not self._rest and getattr(self._unpacker, "needs_input", True):
                self._rest = self._stream.read(_CHUNK)
                self._taken += len(self._rest)
            is_at_end = not self._rest
            data = self._unpacker.decompress(self._rest, wanted)  # at the end: what it still holds back
            if is_at_end and not data:
                return 0
            self._rest = getattr(self._unpacker, "unconsumed_tail", b"")
        self._given += len(data)
        self._check()
        buffer[: len(data)] = data
        return len(data)

    def _check(self) -> None:
        is_bomb = self._given > RATIO_COUNTS_FROM_BYTES and self._given > MAX_RATIO * max(self._taken, 1)
        if is_bomb or self._given > MAX_BYTES:
            raise Bomb(f"It unpacks to more than {self._given:,} bytes from {self._taken:,}.")

    def close(self) -> None:
        self._stream.close()
        super().close()


class _Zlib:
    """zlib's unpacker with the attributes that bz2's and lzma's have."""

    def __init__(self, wbits: int) -> None:
        self._inner = zlib.decompressobj(wbits)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unconsumed_tail(self) -> bytes:
        return self._inner.unconsumed_tail

    def decompress(self, data: bytes, limit: int) -> bytes:
        return self._inner.decompress(data, limit)


UNPACK_ERRORS = (zlib.error, lzma.LZMAError, OSError, EOFError, Bomb)
_UNPACKERS: dict[str, Callable[[], Any]] = {
    "gzip": lambda: _Zlib(31),
    "zlib": lambda: _Zlib(15),
    "bz2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(memlimit=256 * 1024 * 1024),
    "lzma": lambda: lzma.LZMADecompressor(memlimit=256 * 1024 * 1024),
}


def can_unpack(compression: str) -> bool:
    return compression in _UNPACKERS


def unpacked(stream: BinaryIO, compression: str) -> BinaryIO:
    """The unpacked stream; reading it may raise any of UNPACK_ERRORS. Closing it closes ``stream``."""
    raw = _Inflating(stream, _UNPACKERS[compression]())
    return cast(BinaryIO, io.BufferedReader(raw, _CHUNK))
