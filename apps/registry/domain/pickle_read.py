"""The arguments of a pickle's instructions, large ones skipped, and what all readings of one file have found."""

from __future__ import annotations

import pickletools
import struct
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from apps.registry.domain.pickle_words import carries_code

MAX_IMPORTS = 2_000
MAX_TEXT = 4_096
MAX_NESTED_BYTES = 1024 * 1024
_CHUNK = 1024 * 1024


class Malformed(ValueError):
    """The bytes are not, or no longer, instructions of a pickle."""


@dataclass(frozen=True, slots=True)
class Global:
    """An imported name on the symbolic stack."""

    name: str


@dataclass(slots=True)
class Made:
    """The result of calling something; ``state`` is what BUILD gave it."""

    what: Any
    args: Any
    state: Any = None


class _Opaque:
    """A value whose content does not matter."""


OPAQUE: Any = _Opaque()
MARK: Any = _Opaque()


@dataclass(slots=True)
class Seen:
    """What all readings of one file have found together."""

    budget: int
    imports: set[str] = field(default_factory=set)
    notes: dict[str, None] = field(default_factory=dict)
    protocol: int = 0
    runs: int = 0
    is_complete: bool = True
    has_raw_arrays: bool = False

    def cannot_tell(self, why: str) -> None:
        self.is_complete = False
        self.notes[why] = None

    def add(self, name: str) -> Global:
        if len(self.imports) < MAX_IMPORTS:
            self.imports.add(name)
        elif name not in self.imports:
            self.cannot_tell(f"It imports more than {MAX_IMPORTS:,} names.")
        if carries_code(name):
            self.notes["It holds compiled code, which a static look cannot read."] = None
        return Global(name)


class Arguments:
    """Reads arguments from ``stream``. ``look_inside`` is told of bytes that may be a pickle themselves."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def look_inside(self, data: bytes) -> None:
        """For whoever reads on."""

    # --- arguments ---------------------------------------------------------------------------------------------
    def take(self, size: int) -> bytes:
        data = self._stream.read(size)
        while len(data) < size:
            more = self._stream.read(size - len(data))
            if not more:
                raise Malformed("it ends in the middle")
            data += more
        return data

    def skip(self, size: int) -> None:
        while size > 0:
            data = self._stream.read(min(size, _CHUNK))
            if not data:
                raise Malformed("it ends in the middle")
            size -= len(data)

    def _line(self) -> str:
        line = self._stream.readline(MAX_TEXT * 4)
        if not line.endswith(b"\n"):
            raise Malformed("a line has no end")
        return line[:-1].decode("utf-8", "surrogateescape")

    def _text_line(self) -> str | None:
        """A line that may be long (an array in protocol 0); None for one too long to name an import."""
        line = more = self._stream.readline(MAX_TEXT * 4)
        while more and not more.endswith(b"\n"):
            more = self._stream.readline(_CHUNK)
            line = b""
        if not more:
            raise Malformed("a line has no end")
        return line[:-1].decode("utf-8", "surrogateescape") if line else None

    def argument(self, info: pickletools.OpcodeInfo) -> Any:
        arg = info.arg
        if arg is None:
            return None
        if arg.n >= 0:
            return self._number(arg.name, self.take(arg.n))
        if arg.n == pickletools.UP_TO_NEWLINE:
            if arg.name == "stringnl_noescape_pair":
                return f"{self._line()}.{self._line()}"
            line = self._text_line()
            return OPAQUE if line is None else self._line_value(arg.name, line)
        sizes = {
            pickletools.TAKEN_FROM_ARGUMENT1: "<B",
            pickletools.TAKEN_FROM_ARGUMENT4: "<i",
            pickletools.TAKEN_FROM_ARGUMENT4U: "<I",
            pickletools.TAKEN_FROM_ARGUMENT8U: "<Q",
        }
        form = sizes[arg.n]
        (size,) = struct.unpack(form, self.take(struct.calcsize(form)))
        if size < 0:
            raise Malformed("a length is negative")
        return self._payload(arg.name, size)

    def _payload(self, kind: str, size: int) -> Any:
        is_text = "unicode" in kind or kind.startswith("string")
        if is_text and size <= MAX_TEXT:
            return self.take(size).decode("utf-8", "surrogateescape")
        if kind.startswith("bytes") and size <= MAX_NESTED_BYTES:
            data = self.take(size)
            self.look_inside(data)
            return OPAQUE
        if kind.startswith("long") and size <= 16:
            return int.from_bytes(self.take(size), "little", signed=True)
        self.skip(size)
        return OPAQUE

    @staticmethod
    def _number(kind: str, data: bytes) -> Any:
        if kind == "float8":
            return OPAQUE
        return int.from_bytes(data, "little", signed=kind == "int4")

    @staticmethod
    def _line_value(kind: str, line: str) -> Any:
        if kind.startswith("decimalnl"):
            digits = line.removesuffix("L")
            if not digits.removeprefix("-").isdigit() and digits not in {"00", "01"}:
                raise Malformed("a number is none")
            return int(digits) if len(digits) < 20 else OPAQUE
        if kind == "stringnl":
            if len(line) < 2 or line[0] not in "'\"" or line[-1] != line[0]:
                raise Malformed("a text has no quotes")
            line = line[1:-1]
            return line if "\\" not in line else _unescaped(line)
        if kind == "unicodestringnl":
            return line if "\\" not in line else _unescaped(line)
        return line


def _unescaped(text: str) -> Any:
    """What Python makes of the escapes; a text that is none is opaque, so that it names no import unnoticed."""
    try:
        return text.encode("latin-1", "backslashreplace").decode("unicode_escape")
    except UnicodeError:
        return OPAQUE
