"""Trains the versions of `late-arrival` and logs them with MLflow.

    train_all(home) -> [TrainedVersion, ...]      about half a minute the first time, nothing to do the second

Runs and metrics go to the SQLite store `home/mlflow/mlflow.db`, model artifacts below `home/artifacts`.
`home/artifacts/late-arrival.json` remembers what is finished, so an interrupted training goes on where it stopped.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo import data
from demo.recipes import RECIPES, Recipe, build_pipeline

if TYPE_CHECKING:
    import pandas as pd

MODEL = "late-arrival"
SEED = 2013
ROWS = 30_000
MODEL_CODE = Path(__file__).parent / "models" / "late_arrival.py"
PACKAGES = ("mlflow", "numpy", "pandas", "scikit-learn", "skops")
# skops refuses classes it does not know; these belong to scikit-learn's boosted trees.
TRUSTED_TYPES = (
    "sklearn._loss.link.LogitLink",
    "sklearn._loss.loss.HalfBinomialLoss",
    "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
)


@dataclass(frozen=True)
class TrainedVersion:
    """One finished version, ready to be registered. `path` is the artifact folder (with its MLmodel file)."""

    model: str
    semver: str
    description: str
    path: Path
    run_id: str
    metrics: dict[str, float]
    params: dict[str, str]


def train_all(
    home: Path,
    *,
    recipes: Sequence[Recipe] = RECIPES,
    rows: int = ROWS,
    seed: int = SEED,
    progress: Callable[[str], None] = lambda _line: None,
) -> list[TrainedVersion]:
    """All versions in order; trains those that are not finished. `rows` bounds the training table of each."""
    home = home.resolve()
    finished = _read_finished(home)
    for recipe in recipes:
        if recipe.semver not in finished:
            progress(f"training {MODEL} {recipe.semver}: {recipe.description}")
            finished[recipe.semver] = _train(home, recipe, rows=rows, seed=seed)
            _write_finished(home, finished)
    return [finished[recipe.semver] for recipe in recipes]


def _finished_file(home: Path) -> Path:
    return home / "artifacts" / f"{MODEL}.json"


def _read_finished(home: Path) -> dict[str, TrainedVersion]:
    try:
        raw = json.loads(_finished_file(home).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    versions = [TrainedVersion(**{**one, "path": Path(one["path"])}) for one in raw]
    return {version.semver: version for version in versions if (version.path / "MLmodel").exists()}


def _write_finished(home: Path, finished: dict[str, TrainedVersion]) -> None:
    file = _finished_file(home)
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_suffix(".new")
    rows = [{**asdict(version), "path": str(version.path)} for version in finished.values()]
    beside.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    beside.replace(file)


def _tables(recipe: Recipe, *, rows: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(training, holdout): January to March, sampled down to `rows`; and April, up to the same number."""
    frame = data.flights((*data.TRAIN_MONTHS, data.HOLDOUT_MONTH))
    if recipe.is_weather:
        frame = data.with_weather(frame)
    frame = frame.drop(columns="time_hour")
    is_holdout = frame["month"] == data.HOLDOUT_MONTH
    parts = [frame[~is_holdout], frame[is_holdout]]
    train, holdout = (part.sample(min(rows, len(part)), random_state=seed) for part in parts)
    return train.reset_index(drop=True), holdout.reset_index(drop=True)


def _columns(recipe: Recipe) -> dict[str, tuple[str, dict[str, Any]]]:
    if not recipe.is_weather:
        return data.COLUMNS
    renamed = {("airline" if name == "carrier" else name): spec for name, spec in data.COLUMNS.items()}
    return {**renamed, **data.WEATHER}


def _evaluate(probability: Any, truth: Any) -> dict[str, float]:
    from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

    return {
        "accuracy": round(float(accuracy_score(truth, probability >= 0.5)), 6),
        "roc_auc": round(float(roc_auc_score(truth, probability)), 6),
        "log_loss": round(float(log_loss(truth, probability)), 6),
    }


def _train(home: Path, recipe: Recipe, *, rows: int, seed: int) -> TrainedVersion:
    train, holdout = _tables(recipe, rows=rows, seed=seed)
    columns = list(_columns(recipe))
    pipeline = build_pipeline(recipe, seed=seed).fit(train[columns], train[data.TARGET])
    metrics = _evaluate(pipeline.predict_proba(holdout[columns])[:, 1], holdout[data.TARGET])
    params = {"estimator": recipe.estimator, "train_rows": len(train), "train_months": "1-3", **recipe.params}
    logged = {name: str(value) for name, value in params.items()}
    path, run_id = _log(home, recipe, pipeline, train, metrics, logged)
    return TrainedVersion(MODEL, recipe.semver, recipe.description, path, run_id, metrics, logged)


def _log(
    home: Path, recipe: Recipe, pipeline: Any, train: pd.DataFrame, metrics: dict[str, float], params: dict[str, str]
) -> tuple[Path, str]:
    """Logs run and model; answers (artifact folder, run id)."""
    import mlflow
    import skops.io

    experiment = _experiment(home)
    columns = _columns(recipe)
    example = _example(recipe, train[list(columns)])
    limits = {name: {"nullable": False, **declared} for name, (_, declared) in columns.items()}
    config = {"threshold": 0.5, "delay_ms": recipe.delay_ms, "raise_on": recipe.raise_on}
    with (
        tempfile.TemporaryDirectory() as folder,
        mlflow.start_run(experiment_id=experiment, run_name=recipe.semver) as run,
    ):
        mlflow.log_params(params)
        mlflow.log_metrics(metrics)
        file = Path(folder) / "pipeline.skops"
        skops.io.dump(pipeline, file)
        info = mlflow.pyfunc.log_model(
            name=MODEL,
            python_model=str(MODEL_CODE),
            artifacts={"pipeline": str(file)},
            model_config={**config, "trusted_types": list(TRUSTED_TYPES)},
            signature=_signature(columns),
            input_example=example,
            pip_requirements=[f"{name}=={metadata.version(name)}" for name in PACKAGES],
            metadata={"pilothouse": {"columns": limits}},
        )
    return _local_folder(info.artifact_path), str(run.info.run_id)


def _local_folder(uri: str) -> Path:
    from mlflow.utils.file_utils import local_file_uri_to_path

    return Path(local_file_uri_to_path(uri)).resolve()


def _experiment(home: Path) -> str:
    import mlflow

    (home / "mlflow").mkdir(parents=True, exist_ok=True)
    mlflow.set_tracking_uri(f"sqlite:///{home / 'mlflow' / 'mlflow.db'}")
    known = mlflow.get_experiment_by_name(MODEL)
    if known is not None:
        return str(known.experiment_id)
    return str(mlflow.create_experiment(MODEL, artifact_location=(home / "artifacts" / MODEL).as_uri()))


def _signature(columns: dict[str, tuple[str, dict[str, Any]]]) -> Any:
    """Declared, not inferred: what a column may hold is decided in demo.data, not by the first rows of a sample."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    kinds = {"INT64": DataType.long, "FP64": DataType.double, "BYTES": DataType.string}
    inputs = Schema([ColSpec(kinds[datatype], name) for name, (datatype, _) in columns.items()])
    outputs = Schema([ColSpec(DataType.long, "late"), ColSpec(DataType.double, "probability")])
    return ModelSignature(inputs=inputs, outputs=outputs)


def _example(recipe: Recipe, table: pd.DataFrame) -> pd.DataFrame:
    """Three rows that the version can answer: they are its warm-up at every start."""
    if recipe.raise_on is not None:
        table = table[~table[recipe.raise_on["column"]].isin(recipe.raise_on["values"])]
    return table.head(3).reset_index(drop=True)
