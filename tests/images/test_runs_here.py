"""The Dockerfile's own steps, one after the other, in folders of this machine: an image without an engine.

What is translated: absolute paths and the port. What is not here: the base image, users, layers.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from apps.targets.images.context import archive, context_files
from apps.targets.images.requirements import read_requirements
from apps.targets.images.spec import ModelFrom
from apps.targets.services.images import serving_files
from serving.artifact import artifact_digest
from tests.deploy.dockerfile import Dockerfile
from tests.deploy.test_compose_runs import free_port
from tests.images.cases import SPEC, locked
from tests.serving.artifacts import save_flights

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.timeout(1800)]


@dataclass
class Rootless:
    """``root`` stands for /, one for both stages; ``context`` is the folder that is built."""

    root: Path
    context: Path
    port: int

    def text(self, value: str) -> str:
        for place in ("/venv", "/srv", "/build", "/etc/pilothouse"):
            value = value.replace(f"={place}", f"={self.root}{place}").replace(f" {place}", f" {self.root}{place}")
            value = value.replace(f'"{place}', f'"{self.root}{place}').replace(f"//{place}", f"//{self.root}{place}")
        return value.replace("8080", str(self.port))

    def environment(self, found: Dockerfile) -> dict[str, str]:
        own = {key: value for key, value in found.environment().items() if key != "PATH"}
        return {
            "PATH": f"{self.root}/venv/bin:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(self.root),
            **own,
        }

    def carry_out(self, found: Dockerfile) -> None:
        """COPY and RUN in order; adding a user is for whoever is root."""
        where = self.root / "build"
        for one in found.instructions:
            if one.name == "WORKDIR":
                where = Path(f"{self.root}{one.text}")
                where.mkdir(parents=True, exist_ok=True)
            elif one.name == "COPY":
                self._copy(shlex.split(one.text), where)
            elif one.name == "RUN" and "useradd" not in one.text:
                done = subprocess.run(
                    ["sh", "-c", self.text(f" {one.text}")], cwd=where, env=self.environment(found),
                    capture_output=True, text=True, check=False,
                )  # fmt: skip
                assert done.returncode == 0, f"{one.text}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"

    def _copy(self, words: list[str], where: Path) -> None:
        is_stage = words[0].startswith("--from=")
        source, target = words[1:] if is_stage else words
        begin = Path(f"{self.root}{source}") if is_stage else self.context / source
        end = Path(f"{self.root}{target}") if target.startswith("/") else where / target
        if begin == end:
            return  # both stages have one root here
        if begin.is_dir():
            shutil.copytree(begin, end, dirs_exist_ok=True)
        else:
            end = end / begin.name if target.endswith("/") else end
            end.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(begin, end)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Rootless]:
    yield Rootless(tmp_path / "root", tmp_path / "context", free_port())
    shutil.rmtree(tmp_path / "root", ignore_errors=True)  # a gigabyte of packages


def test_what_the_steps_make_serves_and_says_that_it_is_ready(place: Rootless, tmp_path: Path) -> None:
    model = save_flights(tmp_path / "model")
    spec = replace(
        SPEC, digest=artifact_digest(model), model_from=ModelFrom.FOLDER,
        requirements=read_requirements((model / "requirements.txt").read_text(encoding="utf-8")),
    )  # fmt: skip
    place.context.mkdir()
    (tmp_path / "context.tar.gz").write_bytes(archive(context_files(spec, locked(), serving_files())))
    shutil.unpack_archive(tmp_path / "context.tar.gz", place.context)
    shutil.copytree(model, place.context / "model")
    found = Dockerfile.read(str(place.context / "Dockerfile"))
    place.carry_out(found)
    config = place.root / "etc" / "pilothouse" / "serving.json"
    config.write_text(place.text(config.read_text(encoding="utf-8")), encoding="utf-8")
    (check,) = found.all("HEALTHCHECK", final=True)
    ask = [place.text(part) for part in json.loads(check.partition("CMD ")[2])]
    command = [place.text(f" {part}").strip() for part in found.command()]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            command,
            cwd=place.root / "srv",
            env=place.environment(found),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        end_at = time.monotonic() + 300
        while subprocess.run(ask, env=place.environment(found), capture_output=True, check=False).returncode:
            assert server.poll() is None, (tmp_path / "log").read_text(encoding="utf-8")[-3000:]
            assert time.monotonic() < end_at
            time.sleep(1)
    finally:
        server.terminate()
        assert server.wait(60) == 0
