"""What an image is made of: held by golden files, by rules, and by a linter where one is installed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from apps.kernel.errors import InvalidInput
from apps.targets.images.context import archive, context_files
from apps.targets.images.dockerfile import MOUNTED_KEY, dockerfile
from apps.targets.images.requirements import read_requirements
from apps.targets.images.spec import ModelFrom, base_check, server_config, warnings_of
from serving.settings import parse_settings
from tests.deploy.dockerfile import Dockerfile, Instruction
from tests.images.cases import DIGEST, FOLDER, SPEC, golden, locked

every_way = pytest.mark.parametrize("way", list(ModelFrom))


@pytest.mark.parametrize("name", sorted(golden()))
def test_what_is_made_is_what_was_agreed(name: str) -> None:
    agreed = (FOLDER / name).read_text(encoding="utf-8")
    assert golden()[name] == agreed, "write it anew with `python -m tests.images.cases` and read the diff"


def read(text: str, folder: Path) -> Dockerfile:
    (folder / "Dockerfile").write_text(text, encoding="utf-8")
    return Dockerfile.read(str(folder / "Dockerfile"))


@every_way
class TestEveryImage:
    def test_is_put_together_in_one_stage_and_runs_in_another(self, way: ModelFrom, tmp_path: Path) -> None:
        found = read(dockerfile(replace(SPEC, model_from=way)), tmp_path)
        assert found.all("FROM") == ["${BASE} AS build", "${BASE}"]
        assert not any("pip" in text for text in found.all("RUN", final=True)), "no installer runs where it serves"

    def test_is_no_root_and_does_nothing_as_root_at_the_end(self, way: ModelFrom, tmp_path: Path) -> None:
        found = read(dockerfile(replace(SPEC, model_from=way)), tmp_path)
        names = [one.name for one in found.final]
        assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", found.all("USER", final=True)[-1])
        assert not {"RUN", "COPY", "ADD"} & set(names[names.index("USER") :])

    def test_starts_our_server_and_asks_whether_it_is_ready(self, way: ModelFrom, tmp_path: Path) -> None:
        found = read(dockerfile(replace(SPEC, model_from=way)), tmp_path)
        assert found.command()[:3] == ["python", "-m", "serving"]
        (check,) = found.all("HEALTHCHECK", final=True)
        argv = json.loads(check.partition("CMD ")[2])
        compile(argv[2], "healthcheck", "exec")
        assert f":{found.all('EXPOSE')[0]}/v2/health/ready" in argv[2]

    def test_copies_only_what_its_folder_has(self, way: ModelFrom, tmp_path: Path) -> None:
        spec = replace(SPEC, model_from=way)
        found = read(dockerfile(spec), tmp_path)
        files = context_files(spec, locked(), {"fetch.py": b"x"})
        ignored = files[".dockerignore"].decode().splitlines()
        for text in found.all("COPY"):
            if "--from" not in text:
                source = text.split()[0]
                assert f"!{source}" in ignored
                assert source == "model/" or any(path.startswith(source) for path in files), source

    def test_holds_no_secret(self, way: ModelFrom, tmp_path: Path) -> None:
        found = read(dockerfile(replace(SPEC, model_from=way)), tmp_path)
        assert not any(re.search("token|secret|password", text, re.IGNORECASE) for text in found.all("ENV"))
        assert not any(re.search("token|secret|password", text, re.IGNORECASE) for text in found.all("ARG"))
        with_secret = [text for text in found.all("RUN") if "token" in text]
        assert len(with_secret) == (way is ModelFrom.REGISTRY)
        assert all(text.startswith(f"--mount=type=secret,id={MOUNTED_KEY},required=true") for text in with_secret)

    def test_has_exactly_the_bytes_of_the_version_or_none(self, way: ModelFrom) -> None:
        text = dockerfile(replace(SPEC, model_from=way))
        assert (f"--digest {DIGEST} --to /srv/model" in text) == (way is not ModelFrom.LATER)


@every_way
def test_a_linter_finds_nothing(way: ModelFrom, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(dockerfile(replace(SPEC, model_from=way)), encoding="utf-8")
    linter = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([linter, tmp_path / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    "name",
    [
        "a\nRUN touch /owned",
        "escape=`",
        "x\r\nUSER root",
        "syntax=evil/image",
        'a" b="$HOME',
        "a\\",
        "${BASE}",
        "\u2028RUN x",
    ],
)
def test_a_name_is_no_instruction(name: str, tmp_path: Path) -> None:
    """Models may be called nearly anything; the file's instructions stay the same."""
    odd = read(dockerfile(replace(SPEC, model=name, version=name)), tmp_path)
    plain = read(dockerfile(SPEC), tmp_path)

    def shape(found: Dockerfile) -> list[Instruction | str]:
        return [one if one.name != "LABEL" else one.name for one in found.instructions]

    assert shape(odd) == shape(plain)
    first = dockerfile(replace(SPEC, model=name)).splitlines()[0]
    assert "=" not in first, "the first comment would be read as a directive"
    for text in odd.all("LABEL"):
        value = text.partition("=")[2]
        assert re.fullmatch(r'"(?:[^"\\$]|\\.)*"', value), value


def test_the_configuration_that_it_brings_is_one_that_the_server_takes() -> None:
    found = parse_settings(json.loads(server_config(SPEC)), "container")
    assert (found.artifact_digest, found.artifact_uri, found.host) == (DIGEST, "file:///srv/model", "0.0.0.0")


def test_equal_folders_are_equal_bytes_whatever_the_order() -> None:
    files = context_files(SPEC, locked(), {"a.py": b"1", "b.py": b"2"})
    assert archive(files) == archive(dict(reversed(list(files.items()))))
    assert archive(files) != archive({**files, "serving/a.py": b"3"})


@pytest.mark.parametrize("base", ["python:3.11.14-slim-bookworm", "registry.example.com:5000/base@sha256:" + "a" * 64])
def test_a_base_that_stays_the_same_is_taken(base: str) -> None:
    assert f"ARG BASE={base}\n" in dockerfile(replace(SPEC, base=base_check(base)))


@pytest.mark.parametrize("base", ["python", "python:latest", "", "python:3.11 AS x", "python:3.11\nRUN x", "-x", "$A"])
def test_any_other_base_is_refused(base: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        base_check(base)
    assert refused.value.fields[0].pointer == "?base"


class TestRequirements:
    def test_versions_extras_and_markers_are_kept(self) -> None:
        found = read_requirements(
            'a==1.0 # why\n\n# no\nB_c[x,y]>=2,<3 ; python_version < "3.12"\nd==1.*\ne==1 --hash=sha256:00\n'
        )
        assert found.lines == ("a==1.0", 'B_c[x,y]<3,>=2 ; python_version < "3.12"', "d==1.*", "e==1")
        assert (found.pinned, found.loose, found.refused) == ({"a": "1.0", "e": "1"}, ("b-c", "d"), ())

    @pytest.mark.parametrize(
        "line",
        [
            "-e .", "-r other.txt", "--index-url https://example.com", "git+https://example.com/x", "./wheel.whl",
            "x @ https://user:pass@example.com/x.whl", "--extra-index-url https://u:hidden@example.com", "a; rm -rf /",
        ],
    )  # fmt: skip
    def test_what_leads_elsewhere_is_left_out_and_told_without_its_password(self, line: str) -> None:
        found = read_requirements(f"{line}\n")
        assert (found.lines, len(found.refused)) == ((), 1)
        (told, *_) = warnings_of(replace(SPEC, requirements=found), {})
        assert "Left out" in told
        assert "hidden" not in told
        assert "user:pass" not in told

    def test_what_is_not_pinned_or_of_another_python_is_told(self) -> None:
        wanted = read_requirements("mystery\npandas\nmlflow==2.1\n")
        told = " ".join(
            warnings_of(replace(SPEC, requirements=wanted, python="3.9.1"), {"pandas": "3", "mlflow": "3.17.2"})
        )
        for word in ("mystery", "pandas", "mlflow 2.1", "Python 3.9.1"):
            assert word in told
