"""The model: loaded through mlflow.pyfunc, warmed up once, and then only asked to predict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from serving.columns import Array, Column, ColumnType
from serving.errors import InvalidInputError, StartCode, StartFailedError
from serving.logs import adopt_library_loggers
from serving.outputs import Outputs, regular
from serving.schema import InputSchema, SchemaUnsupportedError, build_schema

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A pyfunc model with its typed input schema and the names and types of its outputs."""

    pyfunc: Any
    schema: InputSchema
    output_names: tuple[str, ...]
    output_types: tuple[str, ...]
    mlflow_version: str

    def predict(self, columns: Mapping[str, Array], rows: int) -> Outputs:
        """Predict `rows` rows. Raises whatever the model raises, or ModelError for an unusable answer."""
        import pandas as pd

        frame = pd.DataFrame(dict(columns), copy=False)
        return regular(self.pyfunc.predict(frame), rows, self.output_names)


def load_model(folder: Path) -> LoadedModel:
    """Load the artifact. Raises StartFailedError(load_failed) whatever the model's own code does."""
    try:
        import mlflow.pyfunc

        adopt_library_loggers()
        pyfunc = mlflow.pyfunc.load_model(str(folder))
        schema = _input_schema(pyfunc.metadata)
        outputs = pyfunc.metadata.get_output_schema()
        specs = outputs.inputs if outputs is not None else []
        names = tuple(spec.name or "" for spec in specs)
        types = tuple(_type_name(spec.type) for spec in specs)
    except StartFailedError:
        raise
    except SchemaUnsupportedError as error:
        raise StartFailedError(StartCode.LOAD_FAILED, f"the model's signature cannot be served: {error}") from error
    except (Exception, SystemExit) as error:  # model code may raise anything
        raise StartFailedError(StartCode.LOAD_FAILED, f"the model does not load: {_short(error)}") from error
    return LoadedModel(pyfunc, schema, names, types, str(mlflow.__version__))


def _input_schema(metadata: Any) -> InputSchema:
    signature = metadata.get_input_schema()
    if signature is None:
        raise SchemaUnsupportedError("it has none; save the model with a signature")
    if signature.is_tensor_spec():
        raise SchemaUnsupportedError("it is made of tensors; save the model with a data frame as input example")
    declared = ((metadata.metadata or {}).get("pilothouse") or {}).get("columns") or {}
    return build_schema([(s.name, _type_name(s.type), bool(s.required)) for s in signature.inputs], declared)


def _type_name(kind: Any) -> str:
    return str(getattr(kind, "name", kind))


def warm_up(model: LoadedModel, folder: Path) -> None:
    """One inference, so that the first caller does not pay for lazy imports. Raises StartFailedError(warmup_failed).

    The row is the first of the model's input example; without one it is made from the signature and the declared
    values and bounds.
    """
    row, source = _example_row(model, folder), "input_example"
    if row is None:
        row, source = {column.name: [_plausible(column)] for column in model.schema.columns}, "signature"
    try:
        batch = model.schema.validate(row, 1)
        model.predict(batch.columns, 1).check_finite()
    except (Exception, SystemExit) as error:
        detail = f"the warm-up inference (row from the {source}) raised {_short(error)}"
        raise StartFailedError(StartCode.WARMUP_FAILED, detail) from error
    log.info("model_warm", row_from=source)


def _example_row(model: LoadedModel, folder: Path) -> dict[str, list[Any]] | None:
    example = model.pyfunc.metadata.load_input_example(str(folder))
    if example is None or not hasattr(example, "columns") or len(example) == 0:
        return None
    known = [column for column in model.schema.columns if column.name in example.columns]
    row = {column.name: [_json_value(example[column.name].iloc[0], column)] for column in known}
    try:
        model.schema.validate(row, 1)
    except InvalidInputError as error:
        log.warning("input_example_refused", code=error.code, column=error.column)
        return None
    return row


def _json_value(value: Any, column: Column) -> Any:
    """A pandas scalar as the JSON value a caller would send."""
    import pandas as pd

    if pd.isna(value):
        return None
    if column.type is ColumnType.DATETIME:
        return pd.Timestamp(value).isoformat()
    return value.item() if hasattr(value, "item") else value


def _plausible(column: Column) -> Any:
    """A value inside the declared constraints; the first declared value in sorted order, else near zero."""
    if column.values is not None:
        return sorted(column.values, key=str)[0]
    low, high = column.minimum, column.maximum
    near_zero = max(low if low is not None else 0, 0) if high is None or high >= 0 else high
    whole: dict[ColumnType, Any] = {
        ColumnType.BOOLEAN: False,
        ColumnType.STRING: "",
        ColumnType.BINARY: "",
        ColumnType.DATETIME: "2020-01-01T00:00:00",
    }
    return whole.get(column.type, near_zero)


def _short(error: BaseException) -> str:
    """Type and first line of a message, bounded: it becomes the one line that the agent shows."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:500]}" if lines else type(error).__name__
