"""The whole way with nothing stood in for: agent, Envoy and `python -m serving` with a model."""

from __future__ import annotations

import warnings
from pathlib import Path

import httpx
import pytest

from agent.testing import running_agent
from tests.agent.support import of, plan, variant

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.pyfunc
        from mlflow.models import ModelSignature
        from mlflow.types.schema import ColSpec, DataType, Schema

        folder = tmp_path_factory.mktemp("artifact") / "twice"
        mlflow.pyfunc.save_model(
            folder,
            python_model=str(Path(__file__).parent / "models" / "tiny.py"),
            signature=ModelSignature(inputs=Schema([ColSpec(DataType["double"], "x")])),
            pip_requirements=["mlflow"],
        )
    return folder


def test_a_model_is_served_through_the_gateway_and_a_wrong_digest_is_a_reason(artifact: Path, tmp_path: Path) -> None:
    from serving.artifact import artifact_digest

    good = variant("v1", artifact_uri=artifact.as_uri(), artifact_digest=artifact_digest(artifact), model="twice")
    wrong = good | {"key": "v2", "role": "candidate", "artifact_digest": "sha256:" + "0" * 64}
    with running_agent(tmp_path) as agent:
        agent.apply(plan(1, {"v1": 10_000}, good), seconds=90)
        answer = httpx.post(
            f"{agent.gateway_url}/serve/late-arrival/invocations",
            json={"dataframe_split": {"columns": ["x"], "data": [[1.5], [2.0]]}},
            timeout=30,
        )
        assert answer.status_code == 200, answer.text
        assert answer.json()["predictions"] == [3.0, 4.0]
        assert answer.headers["x-pilothouse-variant"] == "v1"
        assert len(answer.headers["x-request-id"]) == 36
        agent.put(plan(2, {"v1": 5000, "v2": 5000}, good, wrong))
        reason = agent.wait_for(
            lambda: "digest_mismatch" in (found := of(agent.observed("late-arrival"), "v2")["reason"]) and found,
            "the digest to be refused",
            90,
        )
        assert reason.endswith(" s.")
        seen = agent.observed("late-arrival")
        assert seen["route"]["weights_bp"] == {"v1": 10_000}
        assert of(seen, "v2")["last_exit"]["code"] == 3
        assert agent.terminate() == 0
