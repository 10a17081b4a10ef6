"""When the candidate is probed, with what, and what probes may and may not prove."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from apps.registry.domain.sample_row import plausible_row
from apps.registry.services.example import example_body
from apps.rollouts.domain.decide import decide
from apps.rollouts.domain.machine import Bake, Hold, Phase
from apps.rollouts.domain.probing import EVERY_SECONDS, is_probe_due
from apps.rollouts.domain.state import Memo, Policy, RouteSeen, Traffic, VariantSeen
from tests.rollouts.worlds import NOW, seen, state

UNCALLED: dict[str, Any] = {
    "stable_traffic": Traffic(), "candidate_traffic": Traffic(probes=20, newest_at=NOW - 2), "policy": Policy.PROBE,
}  # fmt: skip


def test_a_candidate_that_nobody_calls_is_probed_every_few_seconds() -> None:
    assert is_probe_due(state(Phase.BAKING), seen(**UNCALLED))
    assert not is_probe_due(state(Phase.BAKING, memo=Memo(probed_at=NOW - EVERY_SECONDS + 1)), seen(**UNCALLED))
    assert is_probe_due(state(Phase.BAKING, memo=Memo(probed_at=NOW - EVERY_SECONDS)), seen(**UNCALLED))


@pytest.mark.parametrize(
    "facts",
    [
        {"policy": Policy.HOLD},
        {"policy": Policy.SKIP},
        {"stable_traffic": Traffic(9, 0, NOW - 1, NOW - 1)},
        {"candidate": VariantSeen("unready")},
        {"route": RouteSeen()},
        {"target_error": "timeout"},
    ],
)
def test_nobody_is_probed_by_another_policy_beside_callers_or_where_it_could_not_answer(facts: dict[str, Any]) -> None:
    assert not is_probe_due(state(Phase.BAKING), seen(**{**UNCALLED, **facts}))


@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.PREPARING, Phase.PAUSED, Phase.ROLLING_BACK, Phase.PROMOTED])
def test_a_phase_that_asks_nothing_of_the_candidate_does_not_probe(phase: Phase) -> None:
    assert not is_probe_due(state(phase), seen(**UNCALLED))


def test_probes_stand_in_for_health_and_never_for_the_split() -> None:
    action = decide(state(Phase.SHIFTING, step=0), seen(**UNCALLED))
    assert isinstance(action, Bake)
    assert "20 probe requests were answered, which prove health and not the split: not measured" in action.reason
    called = {**UNCALLED, "stable_traffic": Traffic(30, 0, NOW - 1, NOW - 1)}
    assert isinstance(decide(state(Phase.SHIFTING, step=0), seen(**called)), Hold)


def test_a_synthesised_row_lies_inside_types_values_and_bounds() -> None:
    kinds = {"hour": "long", "delay": "double", "low": "double", "carrier": "string", "late": "boolean"}
    kinds["at"] = "datetime"
    inputs = [{"name": name, "type": kind, "required": True} for name, kind in kinds.items()]
    constraints: dict[str, dict[str, Any]] = {
        "hour": {"min": 5, "max": 23},
        "low": {"max": -3},
        "carrier": {"values": ["UA", "AA"]},
    }
    assert plausible_row(inputs, constraints) == {
        "hour": 5, "delay": 0, "low": -3, "carrier": "AA", "late": False, "at": "2020-01-01T00:00:00",
    }  # fmt: skip


def artifact(folder: Path, info: str, **files: object) -> str:
    (folder / "MLmodel").write_text(f"flavors: {{python_function: {{}}}}\n{info}")
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder.as_uri()


INFO = "saved_input_example_info: {artifact_path: input_example.json, serving_input_path: %s}\n"


def test_the_first_row_of_the_saved_example_is_what_is_sent(tmp_path: Path) -> None:
    split = {"columns": ["x", "y"], "data": [[1, "a"], [2, "b"]]}
    uri = artifact(tmp_path, INFO % "serving_input_example.json", serving_input_example={"dataframe_split": split})
    assert example_body(uri) == {"dataframe_split": {"columns": ["x", "y"], "data": [[1, "a"]]}}


def test_an_older_artifact_has_only_the_example_itself(tmp_path: Path) -> None:
    info = "saved_input_example_info: {artifact_path: input_example.json}\n"
    uri = artifact(tmp_path, info, input_example={"columns": ["x"], "data": [[1]]})
    assert example_body(uri) == {"dataframe_split": {"columns": ["x"], "data": [[1]]}}


def test_an_artifact_without_an_example_or_with_a_strange_one_has_none(tmp_path: Path) -> None:
    assert example_body(artifact(tmp_path, "")) is None
    assert example_body(artifact(tmp_path, INFO % "gone.json")) is None
    assert example_body(artifact(tmp_path, INFO % "odd.json", odd={"inputs": [1, 2]})) is None
    assert example_body((tmp_path / "nowhere").as_uri()) is None


def test_an_example_outside_the_artifact_is_not_read(tmp_path: Path) -> None:
    inside = tmp_path / "model"
    inside.mkdir()
    (tmp_path / "secret.json").write_text(json.dumps({"columns": ["x"], "data": [[1]]}))
    assert example_body(artifact(inside, INFO % "../secret.json")) is None
