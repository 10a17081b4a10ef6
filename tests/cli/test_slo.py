"""Objectives from a terminal: promised, looked at, replayed, exported, and no longer promised."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from apps.slo.models import Objective
from tests.api.world import World
from tests.cli.conftest import Program

pytestmark = pytest.mark.django_db(transaction=True)


def test_an_objective_is_promised_changed_exported_and_taken_back(
    world: World, program: Program, tmp_path: Path
) -> None:
    pilothouse = program("alice")
    dry = pilothouse(
        "slo", "create", "late-arrival", "answers", "--kind", "availability", "--target", "99.5", "--dry-run"
    )
    assert dry.returncode == 0, dry.stderr
    assert "page fast" in dry.stdout
    assert not Objective.objects.filter(name="answers").exists()

    refused = pilothouse("slo", "create", "late-arrival", "x", "--kind", "availability", "--target", "90")
    assert refused.returncode != 0
    assert "can never fire" in refused.stderr
    assert pilothouse("slo", "create", "late-arrival", "x", "--kind", "errors", "--target", "all").returncode == 2

    made = pilothouse(
        "-o", "json", "slo", "create", "late-arrival", "answers", "--kind", "availability", "--target", "99.5"
    )
    assert made.returncode == 0, made.stderr
    objective = json.loads(made.stdout)["id"]
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps({"tiers": [
        {"name": "only", "severity": "page", "long_seconds": 3600, "short_seconds": 300, "budget_bp": 200}
    ]}))  # fmt: skip
    changed = pilothouse("slo", "update", objective, "--target", "99.9", "--policy", str(policy), "--off")
    assert changed.returncode == 0, changed.stderr
    row = Objective.objects.get(pk=objective)
    assert (row.target_ppm, row.is_enabled, row.policy["tiers"][0]["name"]) == (999_000, False, "only")
    assert "answers" in pilothouse("slo", "list", "late-arrival").stdout
    assert "pending" in pilothouse("slo", "status", "late-arrival").stdout

    assert pilothouse("slo", "update", objective, "--on").returncode == 0
    file = tmp_path / "rules.yml"
    assert pilothouse("slo", "rules", "late-arrival", "--file", str(file)).returncode == 0
    alerts = [
        rule for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"] if "alert" in rule
    ]
    assert [alert["labels"]["objective_id"] for alert in alerts] == [objective]

    assert pilothouse("slo", "delete", objective).returncode == 0
    assert not Objective.objects.filter(pk=objective).exists()
