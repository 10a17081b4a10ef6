"""Candidates that cannot be served: each rollout ends and says why, and stable answers all the while.

The real agent, Envoy and serving programs; only the workers' clock goes fast where nothing but time is waited for.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent.testing import RunningAgent, running_agent
from apps.registry.drivers.artifacts import digest_and_size
from apps.registry.models import ModelVersion
from apps.rollouts.domain.machine import TERMINAL
from apps.rollouts.models import Rollout
from apps.rollouts.services.lifecycle import rollout_start
from apps.targets.models import Endpoint, TrafficPolicy
from apps.targets.selectors import endpoint_get
from apps.targets.services.connect import endpoint_create, target_create, target_probe
from tests.agent.support import of
from tests.chaos.workers import Worker, Workers, worker_starter
from tests.fakes.registry import make_version
from tests.fakes.targets import ALICE
from tests.worker.support import eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(600)]
TESTS = Path(__file__).parents[1]
LOADABLE = TESTS / "agent" / "models" / "tiny.py"
BROKEN = TESTS / "serving" / "models"
STABLE = "v1-0-0"
ROWS = {"dataframe_split": {"columns": ["x"], "data": [[1.5]]}}
GRACE = 400.0
"""Seconds that the workers' clock goes ahead: more than the time a candidate is given to come up."""


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[RunningAgent]:
    folder = tmp_path / "agent"
    folder.mkdir()
    with running_agent(folder) as running:
        yield running


@pytest.fixture
def workers(django_db_setup: None, tmp_path: Path) -> Iterator[Workers]:
    folder = tmp_path / "starter"
    folder.mkdir()
    with worker_starter(folder) as starter:
        yield starter


def saved(folder: Path, code: Path) -> Path:
    """A model from code as mlflow saves it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.pyfunc
        from mlflow.models import ModelSignature
        from mlflow.types.schema import ColSpec, DataType, Schema

        signature = ModelSignature(inputs=Schema([ColSpec(DataType["double"], "x")]))
        mlflow.pyfunc.save_model(folder, python_model=str(code), signature=signature, pip_requirements=["mlflow"])
    return folder


def registered(semver: str, artifact: Path) -> ModelVersion:
    version = make_version("bad-candidates", semver)
    digest, _ = digest_and_size(artifact)
    ModelVersion.objects.filter(pk=version.pk).update(source_uri=artifact.as_uri(), artifact_digest=digest)
    version.refresh_from_db()
    return version


def served(agent: RunningAgent, stable: ModelVersion) -> Endpoint:
    connection = {"url": agent.url, "token_file": str(agent.token_file)}
    target = target_create(
        actor=ALICE, name="here", kind="local", connection=connection, no_traffic_policy=TrafficPolicy.SKIP
    )
    assert target_probe(target_id=target.pk) is not None
    return endpoint_create(
        actor=ALICE, name="late-arrival", target_id=target.pk, model_id=stable.model_id, version_id=stable.pk
    )


@dataclass
class Place:
    """An endpoint that serves 1.0.0, one worker, and somebody who calls at every look."""

    agent: RunningAgent
    workers: Workers
    worker: Worker
    endpoint: Endpoint

    def eventually(self, look: Callable[[], object], seconds: float) -> None:
        """Poll, and call the endpoint each time: stable answers, whatever the candidate does."""

        def looked() -> object:
            answer = httpx.post(f"{self.agent.gateway_url}/serve/late-arrival/invocations", json=ROWS, timeout=30)
            assert answer.status_code == httpx.codes.OK, answer.text
            assert answer.headers["x-pilothouse-variant"] == STABLE
            return look()

        eventually(looked, seconds=seconds)

    def roll_out(self, candidate: ModelVersion, spoil: Callable[[], object]) -> Rollout:
        """Plan on whole files, spoil them before anybody acts, wait for the complaint, let the time run out."""
        self.worker.freeze()
        rollout = rollout_start(
            actor=ALICE, endpoint_id=self.endpoint.pk, version_id=candidate.pk, strategy="canary", guardrails=()
        )
        spoil()
        self.worker.thaw()

        def complaint() -> object:
            seen = self.agent.observed("late-arrival")
            return candidate.variant_key in keys(seen) and of(seen, candidate.variant_key)["reason"]

        def is_over() -> bool:
            rollout.refresh_from_db()
            return rollout.phase in TERMINAL

        self.eventually(complaint, 120)
        self.workers.forward(GRACE)
        self.eventually(is_over, 60)
        self.eventually(lambda: keys(self.agent.observed("late-arrival")) == [STABLE], 60)
        return rollout


def keys(seen: Any) -> list[str]:
    return [one["key"] for one in seen["variants"]]


@pytest.fixture
def place(agent: RunningAgent, workers: Workers, tmp_path: Path) -> Place:
    endpoint = served(agent, registered("1.0.0", saved(tmp_path / "1.0.0", LOADABLE)))
    workers.begin(tmp_path / "workers")
    worker = workers.start("only")
    eventually(lambda: agent.api.get("/v1/endpoints/late-arrival").is_success, seconds=60)
    eventually(lambda: (agent.observed("late-arrival")["route"] or {}).get("weights_bp"), seconds=120)
    endpoint.refresh_from_db()
    return Place(agent, workers, worker, endpoint)


def test_a_candidate_that_cannot_be_served_ends_its_rollout_with_the_reason_and_stable_goes_on(
    place: Place, tmp_path: Path
) -> None:
    def nothing() -> None:
        """The files stay as they were registered."""

    gone, changed = saved(tmp_path / "1.3.0", LOADABLE), saved(tmp_path / "1.4.0", LOADABLE)
    cases = [
        ("1.1.0", saved(tmp_path / "1.1.0", BROKEN / "unloadable.py"), nothing, "weights are missing"),
        ("1.2.0", saved(tmp_path / "1.2.0", BROKEN / "unwarmable.py"), nothing, "no row is good enough"),
        ("1.3.0", gone, partial(shutil.rmtree, gone), "artifact"),
        ("1.4.0", changed, partial((changed / "note.txt").write_text, "changed"), "digest"),
    ]
    for semver, folder, spoil, word in cases:
        rollout = place.roll_out(registered(semver, folder), spoil)
        assert (rollout.phase, word in rollout.reason) == ("failed", True), f"{rollout.phase}: {rollout.reason}"
        assert semver in rollout.reason
        assert endpoint_get(place.endpoint.pk).stable_version_id == place.endpoint.stable_version_id
