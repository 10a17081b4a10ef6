"""A model artifact on disk: its digest and what its ``MLmodel`` says. Nothing is unpickled, mlflow is not imported.

The digest is the one of docs/concepts/contracts.md section 4; the serving program has its own copy of the algorithm,
and tests/registry/test_artifacts.py holds both to the same answers.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

from apps.kernel.errors import InvalidInput

_MLMODEL_MAX_BYTES = 4 * 1024 * 1024
_COMMON_FLAVOR = "python_function"


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
    described = _read_mlmodel(folder)
    digest, size = digest_and_size(folder)
    signature = _signature(described)
    return Artifact(
        uri=folder.as_uri(),
        digest=digest,
        size_bytes=size,
        flavor=_flavor(described),
        signature=signature,
        input_constraints=_constraints(described, signature),
    )


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


def digest_and_size(folder: Path) -> tuple[str, int]:
    """``sha256:<hex>`` of the canonical manifest and the bytes it covers. Raises InvalidInput."""
    manifest, total = hashlib.sha256(), 0
    try:
        for relative, path in sorted(
            (os.fsencode(path.relative_to(folder).as_posix()), path) for path in _files(folder)
        ):
            content, size = _hash_file(path)
            manifest.update(b"%s  %d  %s\n" % (content.encode("ascii"), size, relative))
            total += size
    except OSError as error:
        raise _fault("artifact_missing", f"The artifact cannot be read: {error.strerror}, {error.filename}.") from error
    return f"sha256:{manifest.hexdigest()}", total


def _hash_file(path: Path) -> tuple[str, int]:
    # O_NOFOLLOW: a file that became a link between the listing and here is not followed.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as stream:
        content = hashlib.file_digest(stream, "sha256").hexdigest()
        return content, stream.tell()


def _files(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            mode = entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISLNK(mode):
                raise _fault("artifact_irregular", f"{entry.path} is a symbolic link; an artifact holds only files.")
            if stat.S_ISDIR(mode):
                if entry.name != "__pycache__":
                    yield from _files(Path(entry.path))
            elif not stat.S_ISREG(mode):
                raise _fault("artifact_irregular", f"{entry.path} is not a regular file.")
            elif Path(entry.name).suffix != ".pyc":
                yield Path(entry.path)


def _read_mlmodel(folder: Path) -> Mapping[str, Any]:
    path = folder / "MLmodel"
    if path.is_symlink() or not path.is_file():
        raise _fault(
            "mlmodel_missing", f"{folder} has no MLmodel file; give the folder that mlflow saved the model to."
        )
    if path.stat().st_size > _MLMODEL_MAX_BYTES:
        raise _fault("mlmodel_invalid", f"{path} is larger than 4 MiB; that is no MLmodel file.")
    try:
        described = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError, RecursionError) as error:
        raise _fault("mlmodel_invalid", f"{path} cannot be read as YAML: {type(error).__name__}.") from error
    if not isinstance(described, dict) or not isinstance(described.get("flavors"), dict) or not described["flavors"]:
        raise _fault("mlmodel_invalid", f"{path} names no flavors.")
    return described


def _flavor(described: Mapping[str, Any]) -> str:
    """The framework's own flavor where there is one besides the common ``python_function``."""
    own = [str(name) for name in described["flavors"] if name != _COMMON_FLAVOR]
    return (own[0] if own else _COMMON_FLAVOR)[:60]


def _signature(described: Mapping[str, Any]) -> dict[str, Any]:
    stored = described.get("signature")
    if not isinstance(stored, dict) or not stored.get("inputs"):
        raise _fault(
            "signature_missing",
            "The model has no signature, so callers could not know what to send; "
            "log it with signature= or input_example=.",
        )
    inputs = _columns(stored["inputs"], "inputs")
    names = [column["name"] for column in inputs]
    if not all(names):
        raise _fault("signature_invalid", "An input of the signature has no name; log the model with a data frame.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise _fault("signature_invalid", f"The signature names an input twice: {', '.join(twice)}.")
    return {"inputs": inputs, "outputs": _columns(stored["outputs"], "outputs") if stored.get("outputs") else []}


def _columns(stored: Any, side: str) -> list[dict[str, Any]]:
    """MLflow keeps each side as a JSON string: columns ``{"type", "name"?, "required"?}`` and tensors."""
    try:
        entries = json.loads(stored) if isinstance(stored, str) else stored
        return [
            {
                "name": str(entry.get("name") or ""),
                "type": _type(entry),
                "required": bool(entry.get("required", True)) and not entry.get("optional", False),
            }
            for entry in entries
        ]
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise _fault("signature_invalid", f"The signature's {side} cannot be read ({type(error).__name__}).") from error


def _type(entry: Mapping[str, Any]) -> str:
    if entry["type"] != "tensor":
        return str(entry["type"])
    spec = entry["tensor-spec"]
    return f"tensor({spec['dtype']}, {list(spec['shape'])})"


def _constraints(described: Mapping[str, Any], signature: Mapping[str, Any]) -> dict[str, Any]:
    metadata = described.get("metadata")
    ours = metadata.get("pilothouse") if isinstance(metadata, dict) else None
    columns = ours.get("columns") if isinstance(ours, dict) else None
    if columns is None:
        return {}
    if not isinstance(columns, dict) or not all(isinstance(one, dict) for one in columns.values()):
        raise _fault("constraints_invalid", "metadata.pilothouse.columns must map column names to objects.")
    unknown = sorted(str(name) for name in columns if name not in {column["name"] for column in signature["inputs"]})
    if unknown:
        raise _fault(
            "constraints_invalid", f"metadata.pilothouse.columns names {', '.join(unknown)}, not in the signature."
        )
    for name, one in columns.items():
        _check_constraint(name, one)
    return {str(name): dict(one) for name, one in columns.items()}


def _check_constraint(name: str, one: Mapping[str, Any]) -> None:
    where = f"metadata.pilothouse.columns.{name}"
    unknown = sorted(str(key) for key in one if key not in {"nullable", "min", "max", "values"})
    if unknown:
        raise _fault("constraints_invalid", f"{where} knows no {', '.join(unknown)}; only nullable, min, max, values.")
    for key in ("min", "max"):
        bound = one.get(key)
        if bound is not None and not _is_number(bound):
            raise _fault("constraints_invalid", f"{where}.{key} must be a number.")
    values = one.get("values")
    if values is not None and not (
        isinstance(values, list) and values and all(isinstance(value, str) or _is_number(value) for value in values)
    ):
        raise _fault("constraints_invalid", f"{where}.values must be a list of texts or numbers.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _fault(code: str, detail: str) -> InvalidInput:
    return InvalidInput.at("/path", code, detail)
