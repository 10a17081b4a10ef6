"""A/B with everything real: agent, Envoy, two serving versions that report to a web process, callers who only call."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from scipy import stats

from agent.testing import RunningAgent, running_agent
from apps.experiments.models import Decision, Readout
from apps.experiments.services.readouts import readout_compute
from apps.registry.models import ModelVersion
from apps.rollouts.domain.strategies import default_guardrails
from apps.rollouts.models import Rollout
from apps.rollouts.selectors import rollout_get, transitions_of
from apps.rollouts.services.lifecycle import rollout_start
from apps.rollouts.services.tick import tick_due
from apps.targets.models import Endpoint
from apps.targets.services.connect import endpoint_create, target_create, target_probe
from apps.targets.services.observe import endpoint_observe
from apps.targets.services.reconcile import endpoint_reconcile
from tests.fakes.saved import saved_version
from tests.fakes.targets import ALICE
from tests.rollouts.worlds import trial
from tests.worker.support import eventually, running

pytestmark = [pytest.mark.real, pytest.mark.django_db(transaction=True), pytest.mark.timeout(600)]
TOKEN = "a-token-for-this-test"
FRAIL = '''"""Fails on what is below its limit."""

from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Frail(PythonModel):
    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        if (model_input["x"] < LIMIT).any():
            raise RuntimeError("too small")
        return model_input["x"] * 2


set_model(Frail())
'''
ERRORS = {"key": "errors", "kind": "proportion", "source": "errors", "higher_is_better": False}
DESIGN = {"metrics": [ERRORS], "primary": "errors", "baseline": 0.2, "effect_relative": -0.5, "planned_total": 600}


def saved(folder: Path, semver: str, limit: float) -> ModelVersion:
    code = folder.with_suffix(".py")
    code.write_text(FRAIL.replace("LIMIT", str(limit)), encoding="utf-8")
    return saved_version("frail", semver, folder, code)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[RunningAgent]:
    """An agent whose serving processes report to a web process on this session's database."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    token = tmp_path / "ingest.token"
    token.write_text(TOKEN, encoding="utf-8")
    web = ("-m", "uvicorn", "controlplane.asgi:application", "--port", str(port), "--lifespan", "off")
    options = ("--telemetry-url", f"http://127.0.0.1:{port}", "--ingest-token-file", str(token))
    with (
        running(*web, log=tmp_path / "web.log", PILOTHOUSE_INGEST_TOKEN=TOKEN),
        running_agent(tmp_path, options=options) as started,
    ):
        yield started


def served(agent: RunningAgent, stable: ModelVersion) -> Endpoint:
    connection = {"url": agent.url, "token_file": str(agent.token_file)}
    target = target_create(actor=ALICE, name="here", kind="local", environment="development", connection=connection)
    target_probe(actor=ALICE, target_id=target.pk)
    endpoint = endpoint_create(
        actor=ALICE, name="frail", target_id=target.pk, model_id=stable.model_id, version_id=stable.pk
    )
    endpoint_reconcile(endpoint.pk, holder="test")
    url = f"{agent.gateway_url}/serve/frail/invocations"

    def answers() -> bool:
        endpoint_observe(endpoint.pk)
        try:
            answer = httpx.post(url, json=rows(1.0), trust_env=False, timeout=30)
        except httpx.TransportError:  # the gateway does not listen yet
            return False
        return answer.status_code == httpx.codes.OK

    eventually(answers, seconds=180)
    return endpoint


def rows(x: float) -> dict[str, object]:
    return {"dataframe_split": {"columns": ["x"], "data": [[x]]}}


@contextmanager
def calling(url: str) -> Iterator[Counter[tuple[str, bool]]]:
    """Callers of whom every fifth sends a small number; counts (variant, whether it answered well)."""
    counts: Counter[tuple[str, bool]] = Counter()
    stop = threading.Event()

    def call() -> None:
        with httpx.Client(trust_env=False, timeout=30) as client:
            for number in itertools.count():
                if stop.is_set():
                    return
                answer = client.post(url, json=rows(-1.0 if number % 5 == 0 else 1.0))
                counts[answer.headers.get("x-pilothouse-variant", ""), answer.status_code == httpx.codes.OK] += 1
                time.sleep(0.02)

    caller = threading.Thread(target=call, daemon=True)
    caller.start()
    try:
        yield counts
    finally:
        stop.set()
        caller.join(60)


def lived(rollout: Rollout, until: str) -> Rollout:
    """What workers do: tick, and compute the readouts that were asked for."""

    def there() -> bool:
        tick_due("worker-1")
        for readout in Readout.objects.filter(state="queued"):
            readout_compute(readout.pk)
        found = rollout_get(rollout.pk)
        assert found.phase == until or found.finished_at is None, f"{found.phase}: {found.reason}"
        time.sleep(0.3)
        return found.phase == until

    eventually(there, seconds=400)
    return rollout_get(rollout.pk)


def test_two_served_versions_are_split_by_the_gateway_and_the_better_one_ships(
    agent: RunningAgent, tmp_path: Path
) -> None:
    stable, candidate = saved(tmp_path / "one", "1.0.0", 0.0), saved(tmp_path / "two", "1.1.0", -10.0)
    endpoint = served(agent, stable)
    url = f"{agent.gateway_url}/serve/frail/invocations"
    with calling(url) as counts:
        rollout = rollout_start(
            actor=ALICE, endpoint_id=endpoint.pk, version_id=candidate.pk, strategy="ab", profile="fast",
            experiment=trial(DESIGN), guardrails=default_guardrails(error_limit=0.05)[:1],
        )  # fmt: skip
        lived(rollout, "gating")
        counts.clear()
        time.sleep(4)
        split = Counter({key: sum(n for (variant, _), n in counts.items() if variant == key) for key, _ in counts})
        ended = lived(rollout, "promoted")
    # the gateway drew lots evenly, and what it sent to each version is what the readout counted
    assert stats.binomtest(split["v1-1-0"], split.total(), 0.5).pvalue > 1e-6, split
    decision = Decision.objects.select_related("readout").get()
    assert (decision.kind, decision.is_override) == ("ship", False)
    readout = decision.readout
    assert readout is not None
    arms = readout.result["primary"]["arms"]
    assert 0.05 < arms["control"]["value"] < 0.4  # one call in five, of the few dozen that decided
    assert arms["treatment"]["value"] == 0.0
    shipped = [row for row in transitions_of(rollout.pk) if row.action == "Shift"][1]
    assert shipped.reason.startswith("the experiment says ship: errors: -")
    assert ended.endpoint.stable_version_id == candidate.pk
    answer = httpx.post(url, json=rows(-1.0), trust_env=False, timeout=30)
    assert (answer.status_code, answer.headers["x-pilothouse-variant"]) == (200, "v1-1-0")
