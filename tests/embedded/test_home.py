"""The home folder, ports and settings: each refusal is one sentence that names the way out."""

from __future__ import annotations

import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from embedded import state
from embedded.console import quiet
from embedded.errors import LaunchError, PortTakenError
from embedded.ports import require_free
from embedded.secret_files import ensure_secret
from embedded.settings import ROOT, child_environment, read_settings


def test_a_taken_port_is_named_with_its_holder_and_the_variable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(PortTakenError, match=rf"Port {port} for the web server is taken by .*PILOTHOUSE_WEB_PORT="):
            require_free(port, what="web server", variable="PILOTHOUSE_WEB_PORT")
    require_free(port, what="web server", variable="PILOTHOUSE_WEB_PORT")


def test_a_secret_is_made_once_even_by_programs_that_start_together(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from embedded.secret_files import ensure_secret\n"
        "print(ensure_secret(Path(sys.argv[1]), 'token'))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "s")]
    programs = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    seen = {program.communicate()[0].strip() for program in programs}
    assert seen == {ensure_secret(tmp_path / "s", "token")}
    assert len(seen.pop()) >= 40
    assert stat.S_IMODE((tmp_path / "s" / "token").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["token"]


def test_a_second_launcher_is_told_about_the_first(tmp_path: Path) -> None:
    state.make_home(tmp_path / "var")
    with (
        state.only_one(tmp_path / "var"),
        pytest.raises(LaunchError, match=r"runs already in .* stop it with Ctrl-C"),
        state.only_one(tmp_path / "var"),
    ):
        pytest.fail("two launchers in one home")
    with state.only_one(tmp_path / "var"):
        pass


def test_reset_removes_a_home_of_ours_and_no_other_folder(tmp_path: Path) -> None:
    ours, other = tmp_path / "var", tmp_path / "photos"
    state.make_home(ours)
    other.mkdir()
    (other / "cat.jpg").touch()
    with pytest.raises(LaunchError, match="was not made by Pilothouse"):
        state.reset(other, quiet)
    state.reset(ours, quiet)
    assert not ours.exists()
    assert (other / "cat.jpg").exists()


def test_a_folder_with_foreign_files_is_no_home(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(LaunchError, match=r"thesis\.tex.*PILOTHOUSE_HOME"):
        state.make_home(tmp_path)


@pytest.mark.parametrize("value", ["0", "99999", "http", "", "²"])
def test_an_impossible_port_is_refused_by_name(value: str) -> None:
    with pytest.raises(LaunchError, match="PILOTHOUSE_WEB_PORT is"):
        read_settings(source={"PILOTHOUSE_WEB_PORT": value})


@pytest.mark.parametrize("value", ["abc", "", "7100-", "7299-7100", "0-5", "7100-70000", "7100-7200-7300", "²"])
def test_an_impossible_range_of_ports_is_named_before_anything_is_started(value: str) -> None:
    with pytest.raises(LaunchError, match=r"PILOTHOUSE_SERVING_PORTS is .* like 7100-7299"):
        read_settings(source={"PILOTHOUSE_SERVING_PORTS": value})


@pytest.mark.parametrize("value", ["7100", "7100-7100", "9700-9760"])
def test_a_range_of_ports_may_be_one(value: str) -> None:
    assert read_settings(source={"PILOTHOUSE_SERVING_PORTS": value}).serving_ports == value


def test_one_port_for_two_programs_is_refused() -> None:
    with pytest.raises(LaunchError, match="PILOTHOUSE_WEB_PORT and PILOTHOUSE_GATEWAY_PORT are both 7080"):
        read_settings(source={"PILOTHOUSE_WEB_PORT": "7080"})


def test_children_get_secrets_as_files_and_every_address(tmp_path: Path) -> None:
    settings = read_settings(tmp_path, {"PATH": "/bin", "PILOTHOUSE_WEB_PORT": "9000"})
    environment = child_environment(settings, database_url="postgresql://d", redis_url="redis://r")
    assert environment["PATH"] == "/bin"
    assert environment["DATABASE_URL"] == "postgresql://d"
    assert environment["REDIS_URL"] == "redis://r"
    assert environment["PILOTHOUSE_WEB_PORT"] == "9000"
    for name in ("SECRET_KEY", "INGEST_TOKEN", "AGENT_TOKEN"):
        assert Path(environment[f"PILOTHOUSE_{name}_FILE"]).parent == tmp_path / "secrets"
