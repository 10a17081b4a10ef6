"""Trained versions are loadable MLflow models that say what they accept, and differ as the demo tells it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml

from demo import data
from demo.recipes import RECIPES
from demo.train import TrainedVersion, train_all

# mlflow warns about its own type hints while it is imported.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def trained(home: Path) -> dict[str, TrainedVersion]:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {version.semver: version for version in train_all(home, rows=3000)}


def load(version: TrainedVersion) -> Any:
    import mlflow

    return mlflow.pyfunc.load_model(str(version.path))


def mlmodel(version: TrainedVersion) -> dict[str, Any]:
    return dict(yaml.safe_load((version.path / "MLmodel").read_text()))


def rows(count: int = 400) -> Any:
    frame = data.flights((5,)).head(count)
    return frame[list(data.COLUMNS)], frame["late"]


def test_every_version_answers_late_and_probability_for_each_flight(trained: dict[str, TrainedVersion]) -> None:
    table, _ = rows()
    table = table[table["carrier"] != "9E"]
    for semver in ("1.0.0", "1.1.0", "1.1.1"):
        answer = load(trained[semver]).predict(table)
        assert list(answer.columns) == ["late", "probability"]
        assert len(answer) == len(table)
        assert set(answer["late"]) <= {0, 1}
        assert answer["probability"].between(0, 1).all()


def test_artifacts_say_which_values_each_column_may_hold(trained: dict[str, TrainedVersion]) -> None:
    columns = mlmodel(trained["1.0.0"])["metadata"]["pilothouse"]["columns"]
    assert set(columns) == set(data.COLUMNS)
    assert columns["dep_delay"] == {"nullable": False, "min": -120, "max": 3000}
    assert columns["carrier"]["values"] == data.CARRIERS


def test_real_flights_of_the_whole_year_keep_to_what_the_artifacts_declare() -> None:
    frame = data.flights(tuple(range(1, 13)))
    assert len(frame) == 327_346
    for name, (_, limits) in data.COLUMNS.items():
        if "values" in limits:
            assert set(frame[name]) <= set(limits["values"])
        if "min" in limits:
            assert frame[name].between(limits["min"], limits["max"]).all(), name


def test_versions_of_one_major_share_a_signature_and_the_next_major_breaks_it(
    trained: dict[str, TrainedVersion],
) -> None:
    signatures = {semver: mlmodel(version)["signature"] for semver, version in trained.items()}
    assert signatures["1.0.0"] == signatures["1.1.0"] == signatures["1.1.1"] == signatures["1.2.0"]
    assert signatures["2.0.0"]["inputs"] != signatures["1.0.0"]["inputs"]
    assert signatures["2.0.0"]["outputs"] == signatures["1.0.0"]["outputs"]
    assert "airline" in signatures["2.0.0"]["inputs"]
    assert "carrier" not in signatures["2.0.0"]["inputs"]


def test_the_second_version_is_better_and_the_slow_one_is_as_good(trained: dict[str, TrainedVersion]) -> None:
    accuracy = {semver: version.metrics["accuracy"] for semver, version in trained.items()}
    assert accuracy["1.1.0"] > accuracy["1.0.0"] + 0.05
    assert accuracy["1.2.0"] == accuracy["1.1.0"]


def test_the_faulty_version_raises_on_a_few_valid_flights_only(trained: dict[str, TrainedVersion]) -> None:
    frame = data.flights(data.REPLAY_MONTHS)
    share = float((frame["carrier"] == "9E").mean())
    assert 0.03 < share < 0.08
    model = load(trained["1.1.1"])
    table, _ = rows(2000)
    with pytest.raises(KeyError, match="9E"):
        model.predict(table[table["carrier"] == "9E"])


def test_the_slow_version_takes_600_milliseconds_more_and_only_its_artifact_knows(
    trained: dict[str, TrainedVersion],
) -> None:
    import time

    settings = mlmodel(trained["1.2.0"])["flavors"]["python_function"]["config"]
    assert settings["delay_ms"] == 600
    model = load(trained["1.2.0"])
    table, _ = rows(1)
    started = time.perf_counter()
    model.predict(table)
    assert time.perf_counter() - started >= 0.6


def test_every_warm_up_example_can_be_answered(trained: dict[str, TrainedVersion]) -> None:
    for version in trained.values():
        model = load(version)
        assert len(model.predict(model.input_example)) == len(model.input_example)


def test_training_again_changes_nothing(home: Path, trained: dict[str, TrainedVersion]) -> None:
    before = {semver: (version.path / "MLmodel").stat().st_mtime_ns for semver, version in trained.items()}
    again = train_all(home, rows=3000, progress=lambda line: pytest.fail(f"trained again: {line}"))
    assert {version.semver: version for version in again} == trained
    assert {v.semver: (v.path / "MLmodel").stat().st_mtime_ns for v in again} == before


def test_nothing_that_serves_or_sends_knows_a_version_number() -> None:
    package = Path(data.__file__).parent
    for file in (
        package / "traffic.py",
        package / "train.py",
        package / "data.py",
        package / "models" / "late_arrival.py",
    ):
        assert not [recipe.semver for recipe in RECIPES if f'"{recipe.semver}"' in file.read_text()], file


def test_the_replay_follows_the_calendar_and_never_ends() -> None:
    first = list(itertools.islice(data.replay((6,)), 3))
    assert {flight.values["month"] for flight in first} == {6}
    total = len(data.flights((6,)))
    wrapped = list(itertools.islice(data.replay((6,), start=total - 1), 3))
    assert wrapped[1:] == first[:2]
    assert all(isinstance(value, (int, float, str)) for value in first[0].values.values())
