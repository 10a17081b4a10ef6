"""Two really served versions behind a real Envoy: every number comes through the real assignment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from agent.testing import RunningAgent, running_agent
from apps.accounts.services.access import actor_of
from apps.accounts.services.tokens import token_make
from apps.experiments.domain.arm_header import ARM_HEADER
from apps.experiments.domain.snippets import snippet
from apps.experiments.models import Exposure, Outcome
from apps.experiments.selectors import experiment_get
from apps.experiments.services.assign import units_assign
from apps.experiments.services.designs import experiment_create, experiment_plan
from apps.experiments.services.exposures import exposures_add
from apps.experiments.services.lifecycle import experiment_start, experiment_stop
from apps.experiments.services.outcomes import outcomes_add
from apps.experiments.services.readouts import readout_compute, readout_request
from apps.experiments.services.ticks import experiment_tick
from apps.registry.models import ModelVersion
from apps.targets.services.connect import endpoint_create, target_create, target_probe
from apps.targets.services.observe import endpoint_observe
from apps.targets.services.reconcile import endpoint_reconcile
from tests.cast import make_user
from tests.experiments.lab import design
from tests.fakes.saved import saved_version
from tests.fakes.targets import ALICE

MODEL = Path(__file__).parent.parent / "agent" / "models" / "tiny.py"
ROWS = {"dataframe_split": {"columns": ["x"], "data": [[1.5]]}}
pytestmark = [pytest.mark.real, pytest.mark.django_db(transaction=True)]


@dataclass
class Served:
    experiment_id: str
    gateway: str
    endpoint_id: str


def _saved(folder: Path, semver: str) -> ModelVersion:
    return saved_version("tiny", semver, folder, MODEL)


def _until(look: object, what: str, seconds: float = 180.0) -> None:
    deadline = time.monotonic() + seconds
    while not look():  # type: ignore[operator]
        assert time.monotonic() < deadline, f"{what} did not come within {seconds:.0f} s"
        time.sleep(0.5)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with running_agent(tmp_path) as agent:
        yield _begun(agent, tmp_path)


def _begun(agent: RunningAgent, folder: Path) -> Served:
    stable, treatment = _saved(folder / "one", "1.0.0"), _saved(folder / "two", "1.1.0")
    connection = {"url": agent.url, "token_file": str(agent.token_file)}
    target = target_create(actor=ALICE, name="here", kind="local", environment="development", connection=connection)
    target_probe(actor=ALICE, target_id=target.pk)
    endpoint = endpoint_create(
        actor=ALICE, name="tiny", target_id=target.pk, model_id=stable.model_id, version_id=stable.pk
    )
    endpoint_reconcile(endpoint.pk, holder="test")
    experiment = experiment_create(
        actor=ALICE, name="real", endpoint_id="tiny", treatment_version_id=treatment.pk, design=design()
    )
    experiment_plan(actor=ALICE, experiment_id=experiment.pk)
    experiment_start(actor=ALICE, experiment_id=experiment.pk)
    endpoint_reconcile(endpoint.pk, holder="test")

    def runs() -> bool:
        endpoint_observe(endpoint.pk)
        return experiment_tick(experiment.pk) == "running"

    _until(runs, "both arms")
    return Served(experiment.pk, f"{agent.gateway_url}/serve/tiny", endpoint.pk)


def test_users_reach_their_arm_by_its_header_and_what_they_do_is_what_the_readout_says(served: Served) -> None:
    users = [f"user-{index}" for index in range(120)]
    told = units_assign(actor=ALICE, experiment_id=served.experiment_id, units=users)
    answered: list[str] = []
    with httpx.Client(trust_env=False, timeout=30) as client:
        for arm in told.arms:
            assert arm is not None
            answer = client.post(f"{served.gateway}/invocations", json=ROWS, headers={told.header: told.values[arm]})
            assert answer.status_code == 200, answer.text
            answered.append(answer.headers["x-pilothouse-variant"])
        forged = client.post(
            f"{served.gateway}/invocations",
            json=ROWS,
            headers={ARM_HEADER: told.values["treatment"][:-1] + "_"},
        )
    wanted = {"control": "v1-0-0", "treatment": "v1-1-0"}
    assert answered == [wanted[str(arm)] for arm in told.arms]
    assert forged.headers["x-pilothouse-variant"] == "v1-0-0"  # nobody signed it: it is no arm

    body = {"units": users, "arms": list(told.arms), "variants": answered}
    assert exposures_add(actor=ALICE, experiment_id=served.experiment_id, body=body).accepted == 120
    liar = {"units": ["user-0"], "arms": ["treatment" if told.arms[0] == "control" else "control"]}
    assert exposures_add(actor=ALICE, experiment_id=served.experiment_id, body=liar).rejected[0].code == "two_arms"
    buyers = [user for user, key in zip(users, answered, strict=True) if key == "v1-1-0"][:20]
    outcomes_add(
        actor=ALICE,
        experiment_id=served.experiment_id,
        body={"ids": buyers, "units": buyers, "events": ["purchase"] * len(buyers)},
    )
    look = readout_compute(readout_request(actor=ALICE, experiment_id=served.experiment_id).pk)
    arms = look.result["primary"]["arms"]
    bought = len([user for user in buyers if user != "user-0"])
    assert arms["control"]["units"] + arms["treatment"]["units"] == 119
    assert round(arms["treatment"]["value"] * arms["treatment"]["units"]) == bought
    assert arms["control"]["value"] == 0.0
    assert look.result["health"]["contaminated"]["units"] == 1

    experiment_stop(actor=ALICE, experiment_id=served.experiment_id, reason="enough")
    endpoint_reconcile(served.endpoint_id, holder="test")

    def alone() -> bool:
        answer = httpx.post(
            f"{served.gateway}/invocations",
            json=ROWS,
            headers={told.header: told.values["treatment"]},
            trust_env=False,
            timeout=30,
        )
        return answer.status_code == 200 and answer.headers["x-pilothouse-variant"] == "v1-0-0"

    _until(alone, "the stable version alone")
    assert experiment_get(served.experiment_id).status == "stopped"


LANGUAGES = {
    "python": ([sys.executable, "-"], 'print(predict("user-1", {rows}), happened("user-1", "purchase", "e1"))'),
    "javascript": (
        ["node", "-"],
        '(async () => console.log(await predict("user-1", {rows}), await happened("user-1", "purchase", "e1")))();',
    ),
    "curl": (["bash", "-euo", "pipefail", "-s"], ""),
}


def test_the_ten_lines_of_every_language_do_what_they_say(served: Served, live_server: object) -> None:
    user = make_user("alice")
    _, key = token_make(actor=actor_of(user), user=user, label="shop", roles=frozenset({"engineer"}))  # type: ignore[arg-type]
    api = f"{live_server}/api/v1/experiments/{served.experiment_id}"
    rows = '{"dataframe_split": {"columns": ["x"], "data": [[1.5]]}}'
    environment = {**os.environ, "PILOTHOUSE_KEY": key, "ROWS": rows, "USER_ID": "user-1", "EVENT": "purchase",
                   "EVENT_ID": "e1", "no_proxy": "*"}  # fmt: skip
    ran = 0
    for language, (command, tail) in LANGUAGES.items():
        if shutil.which(command[0]) is None:
            continue
        Exposure.objects.all().delete()
        Outcome.objects.all().delete()
        program = snippet(language, api=api, gateway=served.gateway) + tail.format(rows=rows) + "\n"
        assert len(snippet(language, api=api, gateway=served.gateway).strip().splitlines()) <= 16
        done = subprocess.run(
            command, input=program, capture_output=True, text=True, timeout=60, env=environment, check=False
        )
        assert done.returncode == 0, f"{language}: {done.stdout}{done.stderr}"
        assert (Exposure.objects.count(), Outcome.objects.count()) == (1, 1), f"{language}: {done.stdout}"
        ran += 1
    assert ran >= 2, "neither Python nor curl ran"
