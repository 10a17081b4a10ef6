"""An experiment from a terminal: sized, planned, started, looked at, decided."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from apps.experiments.models import Experiment, Readout
from apps.kernel.clock import now
from tests.api.rows import DESIGN
from tests.api.world import World
from tests.cli.conftest import Program

pytestmark = pytest.mark.django_db(transaction=True)


def test_an_experiment_is_sized_planned_started_and_decided(world: World, program: Program, tmp_path: Path) -> None:
    pilothouse = program("alice")
    file = tmp_path / "design.json"
    file.write_text(json.dumps(DESIGN))
    sized = pilothouse("experiment", "plan", "late-arrival", "1.1.0", "-f", str(file), "--units-per-day", "500")
    assert sized.returncode == 0, sized.stderr
    assert "power.prop.test" in sized.stdout
    assert not Experiment.objects.exists()

    kept = pilothouse("-o", "json", "experiment", "plan", "late-arrival", "1.1.0", "-f", str(file), "--store")
    assert kept.returncode == 0, kept.stderr
    made = json.loads(kept.stdout)["id"]
    started = pilothouse("experiment", "start", made)
    assert started.returncode == 0, started.stderr
    assert Experiment.objects.get().status == "starting"
    assert pilothouse("experiment", "decide", made).returncode == 7  # nothing was read yet

    Experiment.objects.update(status="running", started_at=now())
    said = {"kind": "keep_running", "reasons": ["1,000 units left"], "inputs_hash": "sha256:0"}
    Readout.objects.create(
        experiment_id=made, state="done", kind="keep_running", requested_by="alice", result={"decision": said}
    )
    waits = pilothouse("experiment", "decide", made)
    assert (waits.returncode, "1,000 units left" in waits.stderr) == (4, True)
    assert "keep_running" in pilothouse("experiment", "status", made).stdout
    silent = pilothouse("experiment", "decide", made, "--kind", "stop_inconclusive")
    assert silent.returncode == 2, silent.stderr
    ended = pilothouse("experiment", "decide", made, "--kind", "stop_inconclusive", "--reason", "no budget")
    assert ended.returncode == 0, ended.stderr
    assert Experiment.objects.get().status == "decided"


def test_a_design_that_cannot_be_meant_is_refused_by_its_fields(world: World, program: Program, tmp_path: Path) -> None:
    file = tmp_path / "design.json"
    file.write_text(json.dumps({**DESIGN, "alpha": 1.5, "effect_relative": 0}))
    refused = program("alice")("experiment", "plan", "late-arrival", "1.1.0", "-f", str(file))
    assert refused.returncode == 2
    assert "alpha" in refused.stderr
    assert "effect_relative" in refused.stderr
