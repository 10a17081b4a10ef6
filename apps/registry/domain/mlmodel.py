"""What an ``MLmodel`` file says: flavor, signature, declared ranges and code. Read within limits, without mlflow."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from apps.kernel.errors import InvalidInput
from apps.registry.domain.archives import path_problem

MAX_BYTES = 4 * 1024 * 1024
MAX_NODES = 200_000
_COMMON_FLAVOR = "python_function"
# The C parser reads 4 MiB in a second where the Python one takes half a minute; both build plain data only.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Described:
    """The forms are those of ``ModelVersion``; ``code`` are the paths declared to hold Python source."""

    flavor: str
    signature: dict[str, Any]
    input_constraints: dict[str, Any]
    code: tuple[str, ...]


def describe_mlmodel(raw: bytes) -> Described:
    """Everything of an MLmodel file. Raises InvalidInput ``mlmodel_…``, ``signature_…``, ``constraints_…``."""
    described = _parsed(raw)
    signature = _signature(described)
    return Described(_flavor(described), signature, _constraints(described, signature), _code(described))


def _parsed(raw: bytes) -> Mapping[str, Any]:
    if len(raw) > MAX_BYTES:
        raise _fault("mlmodel_invalid", "MLmodel is larger than 4 MiB; that is no MLmodel file.")
    try:
        # CSafeLoader is a SafeLoader: it makes no objects, whatever the tags say.
        described = yaml.load(raw.decode("utf-8"), Loader=_LOADER)  # noqa: S506
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _fault("mlmodel_invalid", f"MLmodel cannot be read as YAML: {type(error).__name__}.") from error
    _check_size(described)
    if not isinstance(described, dict) or not isinstance(described.get("flavors"), dict) or not described["flavors"]:
        raise _fault("mlmodel_invalid", "MLmodel names no flavors.")
    return described


def _check_size(value: Any) -> None:
    """Aliases let a small YAML text stand for a huge tree ("billion laughs"); every visit counts, shared or not."""
    waiting, visits = [value], 0
    while waiting:
        one = waiting.pop()
        visits += 1
        if visits + len(waiting) > MAX_NODES:
            raise _fault("mlmodel_invalid", f"MLmodel has more than {MAX_NODES:,} values, or refers to itself.")
        if isinstance(one, dict):
            waiting.extend(one.values())
        elif isinstance(one, list | tuple | set):
            waiting.extend(one)


def _code(described: Mapping[str, Any]) -> tuple[str, ...]:
    """``code:`` folders of the flavors and the file of a model from code, as far as they are paths within."""
    flavors = [flavor for flavor in described["flavors"].values() if isinstance(flavor, dict)]
    named = [flavor.get("code") for flavor in flavors]
    # mlflow writes where the author had the file and loads the one of that name beside MLmodel
    sources = [described.get("model_code_path"), *(flavor.get("model_code_path") for flavor in flavors)]
    named += [one.rpartition("/")[2] for one in sources if isinstance(one, str)]
    paths = (one.rstrip("/") for one in named if isinstance(one, str))
    return tuple(sorted({path for path in paths if not path_problem(path)}))


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
