"""Probe requests against a real agent with real Envoy and a real serving process."""

from __future__ import annotations

import warnings
from pathlib import Path

import httpx
import pytest

from agent.testing import running_agent
from apps.registry.domain.sample_row import plausible_row
from apps.registry.drivers.artifacts import read_artifact
from apps.registry.services.example import example_body
from apps.rollouts.domain.probing import PROBES
from apps.rollouts.services.probe import send
from apps.targets.domain.plan import FULL_BP, EndpointPlan, Role, Route, VariantSpec

MODEL = Path(__file__).parent.parent / "agent" / "models" / "tiny.py"


def save(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.pyfunc
        import pandas as pd
        from mlflow.models import infer_signature

        example = pd.DataFrame({"x": [1.5, 2.5]})
        mlflow.pyfunc.save_model(
            folder,
            python_model=str(MODEL),
            signature=infer_signature(example),
            input_example=example,
            pip_requirements=["mlflow"],
        )


@pytest.mark.real
def test_probes_reach_the_forced_variant_and_are_counted_as_probes(tmp_path: Path) -> None:
    save(tmp_path / "model")
    artifact = read_artifact(tmp_path / "model")
    body = example_body(artifact.uri)
    assert body == {"dataframe_split": {"columns": ["x"], "data": [[1.5]]}}
    made = {"dataframe_records": [plausible_row(artifact.signature["inputs"], artifact.input_constraints)]}
    stable, candidate = (
        VariantSpec(key, "1.0.0", "tiny", role, artifact.uri, artifact.digest)
        for key, role in (("v1-0-0", Role.STABLE), ("v1-1-0", Role.CANDIDATE))
    )
    plan = EndpointPlan("probed", 1, (stable, candidate), Route(3, {"v1-0-0": FULL_BP}))
    with running_agent(tmp_path) as agent:
        observed = agent.apply(plan.to_json(), seconds=120)
        ready = agent.wait_for(
            lambda: all(one["state"] == "ready" for one in agent.observed("probed")["variants"]), "both variants", 120
        )
        assert ready
        health, forced = f"{observed['address']}/v2/health/ready", {"x-pilothouse-variant": "v1-1-0"}
        agent.wait_for(
            lambda: httpx.get(health, headers=forced, trust_env=False).status_code == 200, "the gateway to know it"
        )
        assert send(observed["address"], "v1-1-0", [{"dataframe_records": [{"x": "no number"}]}, body, made]) == PROBES
        assert send(observed["address"], "v1-1-0", [made]) == PROBES
        ports = {one["key"]: one["ports"][0] for one in agent.observed("probed")["variants"]}
        counted = {
            key: httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text for key, port in ports.items()
        }
    lines = [line for text in counted.values() for line in text.splitlines() if "requests_total" in line]
    probes = [line for line in lines if 'route="probe"' in line]
    assert sum(float(line.rsplit(" ", 1)[1]) for line in probes) == 2 * PROBES
    assert not [line for line in lines if 'route="forced"' in line and float(line.rsplit(" ", 1)[1]) > 0]
