"""The pipelines: valid for their systems, and their scripts really run against the API.

What stands in: docker, which writes the metadata that a push leaves, and the exchange of the job's identity, which has
tests of its own (tests/accounts): here it leaves a key.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from apps.registry.models import ModelVersion
from apps.rollouts.models import Rollout
from apps.targets.images import ci
from apps.targets.images.spec import ModelFrom
from apps.targets.services.connect import endpoint_create, target_create, target_probe
from apps.targets.services.images import image_spec
from tests.images.cases import SPEC
from tests.images.conftest import Registry

PUSHED = "sha256:" + "e" * 64
ODD = replace(SPEC, model="a ${{ secrets.X }} $HOME `id` \"'", version="1.0.0")
SCHEMAS = {"github": ["vendor.github-workflows"], "gitlab": ["vendor.gitlab-ci", "--data-transform", "gitlab-ci"]}
both = pytest.mark.parametrize("system", ["github", "gitlab"])


def pipeline(system: str, spec: Any = SPEC) -> str:
    return str(getattr(ci, system)(spec, endpoint="late-arrival"))


def scripts(system: str, spec: Any = SPEC) -> list[str]:
    document = yaml.safe_load(pipeline(system, spec))
    if system == "github":
        return [step["run"] for step in document["jobs"]["image"]["steps"]]
    jobs = [
        value
        for value in document.values()
        if isinstance(value, dict) and ("script" in value or "before_script" in value)
    ]
    return [line for job in jobs for key in ("before_script", "script") for line in job.get(key, ())]


@both
def test_it_is_what_the_systems_own_schema_allows(system: str, tmp_path: Path) -> None:
    (tmp_path / "pipeline.yml").write_text(pipeline(system), encoding="utf-8")
    name, *more = SCHEMAS[system]
    command = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        name,
        *more,
        str(tmp_path / "pipeline.yml"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@both
@pytest.mark.parametrize("way", list(ModelFrom))
def test_every_script_is_one_that_a_shell_reads(system: str, way: ModelFrom) -> None:
    for script in scripts(system, replace(SPEC, model_from=way)):
        done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@both
def test_no_credential_is_in_it_or_on_a_command_line(system: str) -> None:
    text = pipeline(system)
    assert "plh_" not in text
    for line in text.splitlines():
        if "curl" in line:
            assert "Bearer" not in line, "an argument can be read by every process"
    assert "--password-stdin" in text
    assert "id-token: write" in text or "id_tokens:" in text


@both
def test_a_name_is_neither_an_expression_nor_a_variable(system: str) -> None:
    text = pipeline(system, ODD)
    document = yaml.safe_load(text)
    assert "${{ secrets.X" not in text.replace("${{ '${{' }} secrets.X", "")
    variables = document["jobs"]["image"]["env"] if system == "github" else document["variables"]
    assert "$" not in variables["MODEL"]
    assert scripts(system, ODD) == scripts(system), "the scripts know the name by its variable only"


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="curl and jq are not installed")
@pytest.mark.parametrize("system", ["github", "gitlab"])
def test_its_steps_build_record_and_start_the_rollout(registry: Registry, tmp_path: Path, system: str) -> None:
    first, second = registry.version(), _another(registry)
    actor = registry.actor()
    target = target_create(actor=_system(), name="here", kind="fake", connection={"world": tmp_path.name})
    target_probe(target_id=target.pk)
    endpoint_create(actor=actor, name="late-arrival", target_id=target.pk, model_id=first.model_id, version_id=first.pk)
    env = _machine(registry, tmp_path, second)
    text = scripts(system, image_spec(second))
    if system == "github":
        build, register = (step.replace("${{ secrets.GITHUB_TOKEN }}", "x") for step in text[1:])
    else:
        build, register = (step for step in text if step.startswith(("mkdir", "printf 'EXACT")))
    built = _run(build, env, tmp_path)
    assert built.returncode == 0, built.stderr
    assert (tmp_path / "context" / "serving" / "fetch.py").is_file()
    asked = (tmp_path / "docker.log").read_text()
    assert f"--tag registry.example.com/late:{second.reference} context" in asked
    assert registry.tokens["alice"] not in asked
    done = _run(register, {**env, "EXACT": f"registry.example.com/late@{PUSHED}"}, tmp_path)
    assert done.returncode == 0, done.stderr
    second.refresh_from_db()
    assert second.image == f"registry.example.com/late@{PUSHED}"
    rollout = Rollout.objects.get()
    assert done.stdout.strip().splitlines()[-1] == rollout.pk
    again = _run(register, {**env, "EXACT": second.image}, tmp_path)
    assert Rollout.objects.count() == 1, again.stderr


def _system() -> Any:
    from apps.kernel.actor import SYSTEM

    return SYSTEM


def _another(registry: Registry) -> ModelVersion:
    from tests.registry.files import entered
    from tests.registry.trees import make_artifact

    return entered(registry.actor(), str(make_artifact(registry.sources / "n", weights=b"other")))


def _machine(registry: Registry, folder: Path, version: ModelVersion) -> dict[str, str]:
    """A runner: the variables of the job, a docker that only says what it was asked, and a key."""
    tools, keys = folder / "bin", folder / "keys"
    tools.mkdir()
    keys.mkdir()
    (keys / "token").write_text(registry.tokens["alice"])
    (keys / "header").write_text(f"Authorization: Bearer {registry.tokens['alice']}")
    metadata = json.dumps({"containerimage.digest": PUSHED})
    (tools / "docker").write_text(
        f"#!/bin/sh\necho \"$@\" >> {folder}/docker.log\n[ \"$1\" = login ] && cat > /dev/null && exit 0\n"
        f"echo '{metadata}' > \"$KEYS/built.json\"\n"
    )  # fmt: skip
    (folder / "sign-in").write_text("#!/bin/sh\n")
    for name in (tools / "docker", folder / "sign-in"):
        name.chmod(0o755)
    return {
        "PATH": f"{tools}:{os.environ['PATH']}", "KEYS": str(keys), "RUNNER_TEMP": str(folder), "NO_PROXY": "*",
        "PILOTHOUSE_URL": registry.address, "MODEL": version.model.name, "VERSION": version.reference,
        "ENDPOINT": "late-arrival", "IMAGE": "registry.example.com/late", "GITHUB_ACTOR": "x",
        "CI_REGISTRY": "registry.example.com", "CI_REGISTRY_USER": "x", "CI_REGISTRY_PASSWORD": "x",
    }  # fmt: skip


def _run(script: str, env: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)
