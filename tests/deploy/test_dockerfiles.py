"""The images, as far as they can be judged without building them."""

from __future__ import annotations

import ast
import importlib.util
import json
import re

import pytest

from tests.architecture.sources import PROGRAMS, python_files, relative, tree_of
from tests.deploy.dockerfile import DOCKERFILES, ROOT, Dockerfile

every_image = pytest.mark.parametrize("path", DOCKERFILES)


@every_image
def test_every_copied_source_exists(path: str) -> None:
    read = Dockerfile.read(path)
    sources = [part for text in read.all("COPY") if not text.startswith("--from") for part in text.split()[:-1]]
    assert len(sources) > 1
    assert [source for source in sources if not (ROOT / source).exists()] == []


@every_image
def test_what_is_copied_is_not_left_out_of_the_build_context(path: str) -> None:
    left_out = {line.strip().rstrip("/") for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()}
    assert {source.split("/")[0] for source in Dockerfile.read(path).copied()} & left_out == set()


@every_image
def test_the_base_is_pinned_to_a_version_of_an_official_image(path: str) -> None:
    bases = Dockerfile.read(path).all("FROM")
    assert bases
    assert [base for base in bases if not re.match(r"python:3\.\d+-slim-[a-z]+( AS \w+)?$", base)] == []


@every_image
def test_the_process_is_not_root(path: str) -> None:
    users = Dockerfile.read(path).all("USER", final=True)
    assert users
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1]), (
        "a number, so that an orchestrator can see that it is not root"
    )


@every_image
def test_nothing_is_done_as_root_after_the_user_was_set(path: str) -> None:
    names = [one.name for one in Dockerfile.read(path).final]
    assert not {"RUN", "COPY", "ADD"} & set(names[names.index("USER") :])


@every_image
def test_dependencies_come_from_the_lock_with_their_hashes(path: str) -> None:
    installs = [text for text in Dockerfile.read(path).all("RUN") if "pip install" in text]
    assert installs
    assert all("--require-hashes" in text and "requirements/runtime.lock" in text for text in installs)


@every_image
def test_there_is_a_healthcheck_that_names_its_command_as_a_list(path: str) -> None:
    (text,) = Dockerfile.read(path).all("HEALTHCHECK", final=True)
    argv = json.loads(text.partition("CMD ")[2])
    assert argv[0] == "python"
    if argv[1] == "-m":
        assert importlib.util.find_spec(argv[2])
    else:
        compile(argv[2], "healthcheck", "exec")
    assert set(Dockerfile.read(path).all("EXPOSE")) & set(re.findall(r"\d+", argv[-1]))


@every_image
def test_the_program_that_is_started_exists(path: str) -> None:
    argv = Dockerfile.read(path).command()
    if argv[0] == "python":
        assert argv[1] == "-m"
        assert importlib.util.find_spec(f"{argv[2]}.__main__")
    else:
        assert argv[0] == "uvicorn"
        module, _, attribute = argv[1].partition(":")
        spec = importlib.util.find_spec(module)
        assert spec is not None
        assert spec.origin is not None
        assert f"\n{attribute} = " in (ROOT / relative_to_root(spec.origin)).read_text(encoding="utf-8")


def relative_to_root(origin: str) -> str:
    return origin.removeprefix(f"{ROOT}/")


@every_image
def test_everything_that_the_copied_packages_import_of_ours_is_copied_too(path: str) -> None:
    copied = set(Dockerfile.read(path).copied())
    packages = copied & set(PROGRAMS)
    assert packages
    missing = {
        f"{relative(file)} imports {name}"
        for file in python_files(*packages)
        for node in ast.walk(tree_of(file))
        for name in imported_programs(node)
        if name not in copied
    }
    assert missing == set()


def imported_programs(node: ast.AST) -> set[str]:
    names: list[str] = []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        names = [node.module]
    return {name.split(".")[0] for name in names} & set(PROGRAMS)


def test_the_build_step_gives_no_secret_that_could_be_used() -> None:
    (run,) = [text for text in Dockerfile.read("Dockerfile").all("RUN") if "collectstatic" in text]
    secrets = re.findall(r"(?:SECRET_KEY|TOKEN)=(\S+)", run)
    assert secrets
    assert all(secret.startswith("only-for-") for secret in secrets)
    assert not any("SECRET" in text or "TOKEN" in text for text in Dockerfile.read("Dockerfile").all("ENV"))
