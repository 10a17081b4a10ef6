"""What each file of an artifact is, told by its content, never by loading it; names decide only between texts.

>>> recognise("model.safetensors", b"\\x08\\x00\\x00\\x00\\x00\\x00\\x00\\x00{}      ", 16)
<Format.SAFETENSORS: 'safetensors'>
"""

from __future__ import annotations

import struct
from enum import StrEnum

HEAD_BYTES = 64 * 1024


class Format(StrEnum):
    """The kinds of files; what may stand in a registered artifact is the policy's to say (domain/inspection.py)."""

    SAFETENSORS = "safetensors"
    ONNX = "onnx"
    SKOPS = "skops"
    XGBOOST = "xgboost"
    LIGHTGBM = "lightgbm"
    CATBOOST = "catboost"
    PYTHON_SOURCE = "python_source"
    PICKLE = "pickle"
    JOBLIB = "joblib"
    TORCH = "torch"
    TORCH_SCRIPT = "torch_script"
    KERAS = "keras"
    HDF5 = "hdf5"
    SAVED_MODEL = "saved_model"
    GGUF = "gguf"
    TFLITE = "tflite"
    NUMPY = "numpy"
    PARQUET = "parquet"
    TEXT = "text"
    EMPTY = "empty"
    ARCHIVE = "archive"
    COMPRESSED = "compressed"
    NATIVE_CODE = "native_code"
    BYTECODE = "bytecode"
    UNKNOWN = "unknown"


LABELS: dict[Format, str] = {
    Format.SAFETENSORS: "safetensors",
    Format.ONNX: "ONNX",
    Format.SKOPS: "skops",
    Format.XGBOOST: "XGBoost",
    Format.LIGHTGBM: "LightGBM",
    Format.CATBOOST: "CatBoost",
    Format.PYTHON_SOURCE: "Python source",
    Format.PICKLE: "pickle",
    Format.JOBLIB: "joblib (pickle)",
    Format.TORCH: "PyTorch (pickle)",
    Format.TORCH_SCRIPT: "TorchScript",
    Format.KERAS: "Keras",
    Format.HDF5: "HDF5",
    Format.SAVED_MODEL: "TensorFlow SavedModel",
    Format.GGUF: "GGUF",
    Format.TFLITE: "TensorFlow Lite",
    Format.NUMPY: "NumPy arrays",
    Format.PARQUET: "Parquet",
    Format.TEXT: "text",
    Format.EMPTY: "empty file",
    Format.ARCHIVE: "archive",
    Format.COMPRESSED: "compressed file",
    Format.NATIVE_CODE: "native code",
    Format.BYTECODE: "compiled Python",
    Format.UNKNOWN: "unknown",
}

PICKLES = frozenset({Format.PICKLE, Format.JOBLIB, Format.TORCH, Format.TORCH_SCRIPT})
"""Formats whose loaders run what the file says; torch's archive holds a pickle."""

COMPRESSIONS: tuple[tuple[bytes, str], ...] = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bz2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x5d\x00\x00", "lzma"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x78\x01", "zlib"),
    (b"\x78\x5e", "zlib"),
    (b"\x78\x9c", "zlib"),
    (b"\x78\xda", "zlib"),
)
_MAGIC: tuple[tuple[bytes, Format], ...] = (
    (b"\x89HDF\r\n\x1a\n", Format.HDF5),
    (b"\x93NUMPY", Format.NUMPY),
    (b"PAR1", Format.PARQUET),
    (b"CBM1", Format.CATBOOST),
    (b"GGUF", Format.GGUF),
    (b"\x7fELF", Format.NATIVE_CODE),
    (b"MZ", Format.NATIVE_CODE),
    (b"\xcf\xfa\xed\xfe", Format.NATIVE_CODE),
    (b"\xca\xfe\xba\xbe", Format.NATIVE_CODE),
    (b"tree\nversion=v", Format.LIGHTGBM),
    (b"{L\x00\x00\x00\x00\x00\x00\x00\x07learner", Format.XGBOOST),
    (b"{i\x07learner", Format.XGBOOST),
    (b"{l\x00\x00\x00\x07learner", Format.XGBOOST),
    (b"binf", Format.XGBOOST),
)
ZIP = (b"PK\x03\x04", b"PK\x05\x06")


def recognise(path: str, head: bytes, size: int) -> Format:
    """The format by the first bytes (``head``: up to HEAD_BYTES). A zip is ARCHIVE here; its members say more."""
    if size == 0:
        return Format.EMPTY
    for magic, found in _MAGIC:
        if head.startswith(magic):
            return found
    if head[:4] in ZIP:
        return Format.ARCHIVE
    if head[4:8] == b"TFL3":
        return Format.TFLITE
    if len(head) > 2 and head[0] == 0x80 and 2 <= head[1] <= 5:
        return Format.PICKLE
    if _is_safetensors(head, size):
        return Format.SAFETENSORS
    if compression_of(head):
        return Format.COMPRESSED
    if head[2:4] == b"\r\n" and path.endswith((".pyc", ".pyo")):
        return Format.BYTECODE
    if is_text(head):
        return _text(path, head)
    return _protobuf(path, head)


def compression_of(head: bytes) -> str:
    """gzip, bz2, xz, lzma, lz4, zstd, zlib, or ""."""
    return next((name for magic, name in COMPRESSIONS if head.startswith(magic)), "")


def is_text(head: bytes) -> bool:
    """Whether the first bytes are UTF-8 without control characters of other than layout."""
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:
            return False
        text = head[: error.start].decode("utf-8")  # cut in the middle of a character
    return not any(character < " " and character not in "\t\n\r\f" for character in text)


def _text(path: str, head: bytes) -> Format:
    if path.endswith((".py", ".ipynb", ".pyi")):
        return Format.PYTHON_SOURCE
    opening = head[:4096].lstrip()
    if opening.startswith(b"{") and b'"learner"' in head and b'"version"' in head[:4096] + head[-4096:]:
        return Format.XGBOOST
    if opening.startswith(b'{"learner"'):
        return Format.XGBOOST
    return Format.TEXT


def _is_safetensors(head: bytes, size: int) -> bool:
    """Eight bytes of length, then that much JSON that begins with a brace."""
    if len(head) < 9 or head[8:9] != b"{":
        return False
    (length,) = struct.unpack("<Q", head[:8])
    return bool(2 <= length <= min(size - 8, 100_000_000))


def _protobuf(path: str, head: bytes) -> Format:
    """ONNX: a ModelProto's own field numbers, with an IR version first or an operator set. SavedModel by its name."""
    fields = _fields(head)
    if path.rpartition("/")[2] == "saved_model.pb" and {number for number, _ in fields} <= {1, 2} and fields:
        return Format.SAVED_MODEL
    known = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
    if fields[:1] == [(1, 0)] and 7 in dict(fields) and all(known.get(number) == kind for number, kind in fields):
        return Format.ONNX
    return Format.UNKNOWN


def _fields(head: bytes) -> list[tuple[int, int]]:
    """The (number, wire type) of the top-level fields of a protobuf message whose keys lie within ``head``."""
    found: list[tuple[int, int]] = []
    place = 0
    while place < len(head) and len(found) < 64:
        key, place = _varint(head, place)
        number, kind = key >> 3, key & 7
        if place < 0 or number == 0 or kind not in {0, 1, 2, 5}:
            return []
        found.append((number, kind))
        if kind == 0:
            _, place = _varint(head, place)
        elif kind == 2:
            length, place = _varint(head, place)
            place = place + length if place >= 0 else place
        else:
            place += 8 if kind == 1 else 4
        if place < 0:
            return []
    return found


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """The value and the place after it; place -1 when it is cut or too long."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            return 0, -1
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    return 0, -1
