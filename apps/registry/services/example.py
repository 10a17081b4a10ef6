"""The input example that a model was saved with, as a request body. Read from the files, without mlflow."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog
import yaml

from apps.kernel.errors import InvalidInput
from apps.registry.drivers.artifacts import locate

log = structlog.get_logger(__name__)

MAX_BYTES = 4 * 1024 * 1024


def example_body(source_uri: str) -> dict[str, Any] | None:
    """An ``/invocations`` body with the example's first row; None when the artifact has no example that can be sent."""
    try:
        folder = locate(source_uri)
        described = yaml.safe_load(_text(folder, "MLmodel"))
        info = described.get("saved_input_example_info") if isinstance(described, Mapping) else None
        if not isinstance(info, Mapping):
            return None
        return _first_row(json.loads(_text(folder, _file_of(folder, info))))
    except (InvalidInput, OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        log.info("input_example_unusable", source_uri=source_uri, error=type(error).__name__)
        return None


def _file_of(folder: Path, info: Mapping[str, Any]) -> str:
    """MLflow names the body as it would be sent, from 2.16 on; before that only the example, split by orientation."""
    named = info.get("serving_input_path")
    if named:
        return str(named)
    serving = "serving_input_example.json"
    return serving if (folder / serving).is_file() else str(info.get("artifact_path") or "input_example.json")


def _text(folder: Path, name: str) -> str:
    """A file of the artifact. Raises ValueError for a path that leads out of it, or one too large to be an example."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder):
        raise ValueError("the path leads out of the artifact")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError("the file is too large")
    return path.read_text(encoding="utf-8")


def _first_row(document: Any) -> dict[str, Any] | None:
    """``{"dataframe_split": {"columns", "data"}}`` or the bare split; other forms name no columns and are not sent."""
    if not isinstance(document, Mapping):
        return None
    split = document.get("dataframe_split", document)
    columns, data = (split.get("columns"), split.get("data")) if isinstance(split, Mapping) else (None, None)
    if not isinstance(columns, list) or not isinstance(data, list) or not data or not isinstance(data[0], list):
        return None
    return {"dataframe_split": {"columns": columns, "data": data[:1]}}
