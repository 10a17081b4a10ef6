"""What the files of an artifact are and whether a policy lets them in. Nothing is loaded or unpacked to disk."""

from __future__ import annotations

import ast
import json
import struct
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast

from apps.registry.domain.archives import BadArchive, open_zip, read_member
from apps.registry.domain.compressed import UNPACK_ERRORS, can_unpack, unpacked
from apps.registry.domain.formats import HEAD_BYTES, LABELS, PICKLES, Format, compression_of, is_text, recognise
from apps.registry.domain.pickles import PickleScan, scan_pickle, would_run

MAX_SCHEMA_BYTES = 32 * 1024 * 1024
MAX_SHOWN = 200
_TAIL_BYTES = 1024
_POLYGLOT_HEAD = 16 * 1024


@dataclass(frozen=True, slots=True)
class FileLook:
    """One file as inspection sees it: ``open`` gives a seekable binary stream from its first byte."""

    path: str
    size: int
    open: Callable[[], BinaryIO]


@dataclass(slots=True)
class FileFinding:
    """What one file is. ``problem`` is why it is refused whatever the policy says, ``types`` what skops would build."""

    path: str
    format: Format
    size: int
    scan: PickleScan | None = None
    problem: str = ""
    types: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Inspection:
    """Of a whole artifact, by path."""

    files: tuple[FileFinding, ...]

    @property
    def format(self) -> Format:
        """The one for the badge: what a reader must know first; "text" when there is nothing else."""
        found = {one.format for one in self.files}
        return next((one for one in _BADGE_ORDER if one in found), Format.TEXT)

    @property
    def pickles(self) -> list[FileFinding]:
        return [one for one in self.files if one.scan is not None]

    def as_dict(self) -> dict[str, Any]:
        """For ``ModelVersion.inspection``: small however large the artifact."""
        counts: dict[str, int] = {}
        for one in self.files:
            counts[one.format.value] = counts.get(one.format.value, 0) + 1
        return {
            "format": self.format.value,
            "label": LABELS[self.format],
            "files": len(self.files),
            "formats": dict(sorted(counts.items())),
            "pickles": [_pickle_shown(one) for one in self.pickles[:MAX_SHOWN]],
            "types": sorted({name for one in self.files for name in one.types})[:MAX_SHOWN],
        }


_BADGE_ORDER = (
    Format.NATIVE_CODE, Format.BYTECODE, Format.UNKNOWN, Format.PICKLE, Format.JOBLIB, Format.TORCH,
    Format.TORCH_SCRIPT,
    Format.ARCHIVE, Format.COMPRESSED, Format.SAVED_MODEL, Format.KERAS, Format.HDF5, Format.SKOPS, Format.ONNX,
    Format.SAFETENSORS, Format.XGBOOST, Format.LIGHTGBM, Format.CATBOOST, Format.GGUF, Format.TFLITE, Format.NUMPY,
    Format.PYTHON_SOURCE, Format.PARQUET, Format.TEXT, Format.EMPTY,
)  # fmt: skip


def inspect_files(files: Iterable[FileLook]) -> Inspection:
    """Look at every file. Raises OSError where one cannot be read."""
    return Inspection(tuple(sorted((_look(one) for one in files), key=lambda one: one.path)))


def _look(file: FileLook) -> FileFinding:
    with file.open() as stream:
        head = stream.read(HEAD_BYTES)
        found = FileFinding(file.path, recognise(file.path, head, file.size), file.size)
        if found.format is not Format.ARCHIVE and file.size > HEAD_BYTES and _ends_as_zip(stream, file.size):
            found.format = Format.ARCHIVE  # zip readers look at the end and do not mind what stands before
        if found.format is Format.ARCHIVE:
            _look_into_zip(found, stream)
    if found.format is Format.NUMPY and head.startswith(b"\x93NUMPY"):
        _look_at_array(found, file, head)
    elif found.format is Format.COMPRESSED:
        _look_into_compressed(found, file, compression_of(head))
    elif found.format is Format.PICKLE or (found.format not in PICKLES and would_run(head[:_POLYGLOT_HEAD])):
        _scan(found, file.open, Format.PICKLE)
    return found


def _scan(found: FileFinding, opened: Callable[[], BinaryIO], kind: Format) -> None:
    try:
        found.scan = scan_pickle(opened)
    except UNPACK_ERRORS as error:
        found.problem = f"cannot be unpacked ({error})"
        found.scan = PickleScan(0, (), 0, False, ("It cannot be unpacked to its end.",))
    found.format = kind
    if kind is Format.PICKLE and any(name.startswith("joblib.") for name in found.scan.imports):
        found.format = Format.JOBLIB
    if kind is Format.PICKLE and any(name.startswith("torch.") for name in found.scan.imports):
        found.format = Format.TORCH


def _ends_as_zip(stream: BinaryIO, size: int) -> bool:
    stream.seek(max(0, size - _TAIL_BYTES))
    return b"PK\x05\x06" in stream.read(_TAIL_BYTES)


def _look_into_zip(found: FileFinding, stream: BinaryIO) -> None:
    try:
        with open_zip(stream, found.size) as archive:
            _look_at_members(found, archive)
    except BadArchive as error:
        found.problem = str(error)[0].lower() + str(error)[1:].rstrip(".")


def _look_at_members(found: FileFinding, archive: zipfile.ZipFile) -> None:
    names = set(archive.namelist())
    pickled = sorted(name for name in names if name.rpartition("/")[2] in {"data.pkl", "constants.pkl"})
    if pickled:
        is_script = any("/code/" in f"/{name}" for name in names)
        scans = [_scan_member(archive, name) for name in pickled]
        found.format, found.scan = Format.TORCH_SCRIPT if is_script else Format.TORCH, _together(scans)
    elif "schema.json" in names:
        found.types = _skops_types(read_member(archive, "schema.json", MAX_SCHEMA_BYTES))
        found.format = Format.SKOPS
    elif {"config.json", "metadata.json"} <= names:
        found.format = Format.KERAS
        config = read_member(archive, "config.json", MAX_SCHEMA_BYTES)
        if b'"__lambda__"' in config or b'"Lambda"' in config:
            found.problem = "holds a Lambda layer, which is compiled Python that runs when it is loaded"
    elif names and all(name.endswith(".npy") for name in names):
        found.format = Format.NUMPY
        if any(_holds_objects(read_member_head(archive, name)) for name in names):
            found.problem = "holds an array of objects, which is a pickle inside an archive"


def read_member_head(archive: zipfile.ZipFile, name: str) -> bytes:
    """The first bytes of a member. Raises BadArchive."""
    try:
        with archive.open(name) as stream:
            return stream.read(HEAD_BYTES)
    except Exception as error:
        # as in archives.read_member: zipfile's errors have no common root
        raise BadArchive(f"Its member {name} cannot be read ({type(error).__name__}).") from error


def _scan_member(archive: zipfile.ZipFile, name: str) -> PickleScan:
    try:
        return scan_pickle(lambda: cast(BinaryIO, archive.open(name)))
    except (*UNPACK_ERRORS, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise BadArchive(f"Its member {name} cannot be read ({type(error).__name__}).") from error


def _together(scans: Sequence[PickleScan]) -> PickleScan:
    return PickleScan(
        max(one.protocol for one in scans),
        tuple(sorted({name for one in scans for name in one.imports})),
        sum(one.runs for one in scans),
        all(one.is_complete for one in scans),
        tuple(dict.fromkeys(note for one in scans for note in one.notes)),
    )


def _skops_types(raw: bytes) -> tuple[str, ...]:
    """The ``module.Class`` of every node of a skops schema. Raises BadArchive."""
    try:
        waiting: list[Any] = [json.loads(raw)]
    except (ValueError, RecursionError) as error:
        raise BadArchive("Its schema.json cannot be read.") from error
    found: set[str] = set()
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if isinstance(one.get("__module__"), str) and isinstance(one.get("__class__"), str):
                found.add(f"{one['__module__']}.{one['__class__']}")
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
    if not found:
        raise BadArchive("Its schema.json describes nothing.")
    return tuple(sorted(found))


def _look_into_compressed(found: FileFinding, file: FileLook, compression: str) -> None:
    if not can_unpack(compression):
        found.problem = f"is compressed with {compression}, which cannot be looked into here"
        return
    try:
        with unpacked(file.open(), compression) as stream:
            head = stream.read(_POLYGLOT_HEAD)
    except UNPACK_ERRORS as error:
        found.problem = f"cannot be unpacked ({error})"
        return
    inner = recognise(file.path.rpartition(".")[0] or file.path, head, len(head))
    if inner is Format.PICKLE or would_run(head):
        _scan(found, lambda: unpacked(file.open(), compression), Format.JOBLIB)
    elif inner in {Format.TEXT, Format.EMPTY} and is_text(head):
        found.format = Format.TEXT


def _look_at_array(found: FileFinding, file: FileLook, head: bytes) -> None:
    if not _holds_objects(head):
        return

    def after_header() -> BinaryIO:
        stream = file.open()
        stream.read(_header_end(head))
        return stream

    _scan(found, after_header, Format.PICKLE)


def _header_end(head: bytes) -> int:
    """Where the data of an .npy file begin (numpy.lib.format): version 1 has 2 bytes of length, later ones 4."""
    form = "<H" if head[6:7] == b"\x01" else "<I"
    size = struct.calcsize(form)
    if len(head) < 8 + size:
        return len(head)
    return 8 + size + int(struct.unpack(form, head[8 : 8 + size])[0])


def _holds_objects(head: bytes) -> bool:
    """Whether an .npy header names an object type, or cannot be read."""
    start = 10 if head[6:7] == b"\x01" else 12
    try:
        header = ast.literal_eval(head[start : _header_end(head)].decode("latin-1").strip())
        return "O" in str(header["descr"])
    except (ValueError, SyntaxError, KeyError, TypeError, MemoryError, RecursionError):
        return True


def _pickle_shown(one: FileFinding) -> dict[str, Any]:
    return {"path": one.path, **(one.scan.as_dict() if one.scan else {})}


# --- the policy ------------------------------------------------------------------------------------------------------
ALWAYS = frozenset({Format.TEXT, Format.EMPTY, Format.PARQUET, Format.NUMPY})
DEFAULT_ALLOWED = ALWAYS | {
    Format.SAFETENSORS, Format.ONNX, Format.SKOPS, Format.XGBOOST, Format.LIGHTGBM, Format.CATBOOST,
    Format.PYTHON_SOURCE,
}  # fmt: skip
NEVER = frozenset({Format.NATIVE_CODE, Format.BYTECODE})


@dataclass(frozen=True, slots=True)
class FormatPolicy:
    """What a model's versions may consist of. Pickles need ``allow_pickle``, whatever ``allowed`` names."""

    allowed: frozenset[Format] = DEFAULT_ALLOWED
    allow_pickle: bool = False
    origin: str = field(default="the default", compare=False)

    def allows(self, one: Format) -> bool:
        if one in NEVER:
            return False
        return self.allow_pickle if one in PICKLES else one in self.allowed or one in ALWAYS


def refusals(inspection: Inspection, policy: FormatPolicy, *, code: Sequence[str] = ()) -> list[str]:
    """Why the artifact is refused, as sentences; empty when it passes. ``code``: paths declared as Python source."""
    found: list[str] = []
    for one in inspection.files:
        reason = _refusal(one, policy, code)
        if reason:
            found.append(f"{one.path} {reason}.")
    return found


def _refusal(one: FileFinding, policy: FormatPolicy, code: Sequence[str]) -> str:
    if one.problem:
        return one.problem
    if one.scan is not None and one.scan.dangerous:
        return f"is a pickle that reaches for {_listed(one.scan.dangerous)}; no policy lets that in"
    if one.format in PICKLES and not policy.allow_pickle:
        return (
            f"is {LABELS[one.format]}, which runs code when it is loaded; {_imports_told(one.scan)}. Save the model as "
            "skops, ONNX or safetensors, or let an admin allow pickles for this model or its team"
        )
    if one.format is Format.PYTHON_SOURCE and not _is_declared(one.path, code):
        return "is Python source that MLmodel does not declare as code; log it with code_paths="
    if not policy.allows(one.format):
        known = "is of a format that cannot be told" if one.format is Format.UNKNOWN else f"is {LABELS[one.format]}"
        return f"{known}, which {policy.origin} policy does not allow; an admin can allow it for this model or its team"
    return ""


def _imports_told(scan: PickleScan | None) -> str:
    if scan is None:
        return "what it imports cannot be told"
    told = f"it imports {_listed(scan.imports)}" if scan.imports else "it imports nothing"
    return told if scan.is_complete else f"{told}, and more that cannot be told"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown


def _is_declared(path: str, code: Sequence[str]) -> bool:
    return any(path == one or path.startswith(f"{one}/") for one in code)
