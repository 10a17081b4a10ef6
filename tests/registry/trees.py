"""Small artifacts on disk, in the shape that mlflow writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

INPUTS: tuple[dict[str, Any], ...] = (
    {"type": "long", "name": "month", "required": True},
    {"type": "double", "name": "dep_delay", "required": True},
    {"type": "string", "name": "carrier", "required": False},
)
OUTPUTS: tuple[dict[str, Any], ...] = ({"type": "long", "name": "late", "required": True},)


def make_artifact(
    folder: Path,
    *,
    inputs: Sequence[Mapping[str, Any]] | None = INPUTS,
    outputs: Sequence[Mapping[str, Any]] | None = OUTPUTS,
    columns: Mapping[str, Any] | None = None,
    weights: bytes = b"weights",
    **other: Any,
) -> Path:
    """A folder with MLmodel and one file; ``inputs`` None leaves the signature out."""
    folder.mkdir(parents=True)
    described: dict[str, Any] = {"flavors": {"python_function": {"loader_module": "mlflow.sklearn"}, "sklearn": {}}}
    if inputs is not None:
        described["signature"] = {
            "inputs": json.dumps(list(inputs)),
            "outputs": None if outputs is None else json.dumps(list(outputs)),
            "params": None,
        }
    if columns is not None:
        described["metadata"] = {"pilothouse": {"columns": dict(columns)}}
    (folder / "MLmodel").write_text(yaml.safe_dump({**described, **other}), encoding="utf-8")
    (folder / "model.skops").write_bytes(weights)
    return folder
