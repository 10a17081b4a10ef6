"""The command on an endpoint's page, run as it stands in a shell, against a real gateway and serving process."""

from __future__ import annotations

import re
import shutil
import subprocess
import warnings
from html import unescape
from pathlib import Path

import pytest
from django.test import Client

from agent.testing import running_agent
from apps.kernel.actor import SYSTEM
from apps.registry.drivers.artifacts import read_artifact
from apps.registry.services.register import model_create, version_register
from apps.targets.domain.plan import FULL_BP, EndpointPlan, Role, Route, VariantSpec
from apps.targets.models import Endpoint
from apps.targets.services.connect import endpoint_create, target_create, target_probe
from tests.cast import make_user

MODEL = Path(__file__).parent.parent / "agent" / "models" / "tiny.py"
SAMPLED = "The row is the input example that 1.0.0 was registered with."
MADE = "The row is made up from the signature of 1.0.0"


def save(folder: Path, *, with_example: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.pyfunc
        import pandas as pd
        from mlflow.models import infer_signature

        example = pd.DataFrame({"x": [1.5, 2.5], "who's": ["it's", "b"]})
        mlflow.pyfunc.save_model(
            folder,
            python_model=str(MODEL),
            signature=infer_signature(example),
            input_example=example if with_example else None,
            pip_requirements=["mlflow"],
        )


@pytest.mark.real
@pytest.mark.skipif(shutil.which("curl") is None, reason="the command needs curl")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("with_example", "said"), [(True, SAMPLED), (False, MADE)], ids=["example", "made"])
def test_the_command_of_the_page_answers_200_as_it_stands(tmp_path: Path, with_example: bool, said: str) -> None:
    save(tmp_path / "model", with_example=with_example)
    artifact = read_artifact(tmp_path / "model")
    model = model_create(actor=SYSTEM, name="tiny")
    version = version_register(actor=SYSTEM, model_name="tiny", semver="1.0.0", path=tmp_path / "model")
    target = target_create(actor=SYSTEM, name="here", kind="fake", connection={"world": tmp_path.name})
    target_probe(target_id=target.pk)
    endpoint = endpoint_create(
        actor=SYSTEM, name="called", target_id=target.pk, model_id=model.pk, version_id=version.pk
    )
    spec = VariantSpec("v1-0-0", "1.0.0", "tiny", Role.STABLE, artifact.uri, artifact.digest)
    with running_agent(tmp_path) as agent:
        agent.apply(EndpointPlan("called", 1, (spec,), Route(3, {"v1-0-0": FULL_BP})).to_json(), seconds=120)
        assert agent.wait_for(
            lambda: all(one["state"] == "ready" for one in agent.observed("called")["variants"]), "the variant", 120
        )
        Endpoint.objects.filter(pk=endpoint.pk).update(observed=agent.observed("called"))
        engineer = Client()
        engineer.force_login(make_user("alice"))
        html = engineer.get("/endpoints/called/").content.decode()
        assert said in html
        command = unescape(re.search(r"<pre>(curl -X POST .*?)</pre>", html, re.DOTALL)[1])  # type: ignore[index]
        told = command.replace("curl ", "curl -sS -w '\\n%{http_code}' ", 1)
        done = subprocess.run(["sh", "-c", told], capture_output=True, text=True, timeout=60, check=True)
        body, status = done.stdout.rsplit("\n", 1)
        assert status == "200", body
        assert "predictions" in body
