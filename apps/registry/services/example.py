"""A request that a version takes: the input example that it was saved with, else a row that its signature allows.

Read from the registered files, without mlflow. Nothing here knows what callers really send.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
import yaml

from apps.kernel.errors import InvalidInput
from apps.registry.domain.sample_row import is_accepted, plausible_row
from apps.registry.domain.signature import Signature
from apps.registry.drivers.artifacts import locate

if TYPE_CHECKING:
    from apps.registry.models import ModelVersion

log = structlog.get_logger(__name__)

MAX_BYTES = 4 * 1024 * 1024
MAX_SHOWN = 6000


@dataclass(frozen=True, slots=True)
class Sample:
    """One row as a person copies it; ``is_example``: the version was registered with it, else it is made from the
    signature."""

    body: str
    is_example: bool


def bodies_of(version: ModelVersion) -> Iterator[dict[str, Any]]:
    """What to send, best first: the artifact's own input example, else a row that the signature allows."""
    example = _example(version.storage_uri or version.source_uri, version.artifact_digest)
    if example is not None:
        yield example
    inputs = version.signature.get("inputs", [])
    yield {"dataframe_records": [plausible_row(inputs, version.input_constraints)]}


def sample_of(version: ModelVersion) -> Sample | None:
    """The first such body that serving accepts, as JSON of one line; None without a signature, where a column has no
    scalar form, or where the row is too long to be copied from a page."""
    signature = Signature.of(version.signature, version.input_constraints)
    if not signature.inputs:
        return None
    for body in bodies_of(version):
        row = _row(body)
        shown = {name: row[name] for name in signature.inputs if name in row}
        if is_accepted(shown, signature):
            text = json.dumps({"dataframe_records": [shown]}, ensure_ascii=False, allow_nan=False)
            if len(text) <= MAX_SHOWN:
                return Sample(text, is_example="dataframe_split" in body)
    return None


def _row(body: Mapping[str, Any]) -> dict[str, Any]:
    """Column -> value of the first row of either form."""
    if "dataframe_records" in body:
        return dict(body["dataframe_records"][0])
    split = body["dataframe_split"]
    return dict(zip(map(str, split["columns"]), split["data"][0], strict=False))


@lru_cache(maxsize=256)
def _example(place: str, digest: str) -> dict[str, Any] | None:
    """Read once per artifact; the digest stands for its content."""
    return example_body(place)


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
