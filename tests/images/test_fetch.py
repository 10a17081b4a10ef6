"""``python -m serving.fetch``: the real program against the real registry, and against one that has a bad day."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from serving.artifact import artifact_digest
from serving.fetch import ATTEMPTS, FetchFailedError, FetchRefusedError, fetch_artifact
from serving.fetch import Registry as Reader
from serving.settings import FetchSettings
from tests.images.conftest import Registry

ROOT = Path(__file__).resolve().parents[2]
DIGEST = "sha256:" + "1" * 64


@dataclass
class Fetch:
    """The program, with a token file and nothing else of this process's environment."""

    folder: Path
    token: str

    def __call__(self, *arguments: str, **env: str) -> tuple[int, dict[str, Any], str]:
        (self.folder / "token").write_text(f"{self.token}\n", encoding="utf-8")
        # -S: no site-packages, so it proves that nothing has to be installed
        done = subprocess.run(
            [sys.executable, "-S", "-m", "serving.fetch", *arguments],
            cwd=ROOT, env={"PATH": os.environ["PATH"], "NO_PROXY": "*", "PYTHONDONTWRITEBYTECODE": "1", **env},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        lines = done.stderr.strip().splitlines()
        last = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
        assert self.token not in done.stdout + done.stderr
        return done.returncode, last, done.stderr


@pytest.fixture
def fetch(registry: Registry, tmp_path: Path) -> Fetch:
    return Fetch(tmp_path, registry.tokens["bob"])


def test_the_folder_is_the_version_byte_for_byte(registry: Registry, fetch: Fetch, tmp_path: Path) -> None:
    version, folder = registry.version(), tmp_path / "model"
    asked = {
        "ARTIFACT_DIGEST": version.artifact_digest, "ARTIFACT_PATH": str(folder), "PILOTHOUSE_URL": registry.address,
        "PILOTHOUSE_TOKEN_FILE": str(tmp_path / "token"),
    }  # fmt: skip
    assert fetch(**asked)[:2] == (0, {"event": "fetched", "digest": version.artifact_digest, "folder": str(folder)})
    assert artifact_digest(folder) == version.artifact_digest
    assert (folder / "data" / "mödel x.txt").read_text() == "hello"
    assert not list(folder.glob(".pilothouse*"))
    # what a killed run left behind: some files right, one cut short, one missing
    kept = (folder / "MLmodel").stat().st_mtime_ns
    (folder / "model.skops").write_bytes(b"x")
    (folder / "data" / "mödel x.txt").unlink()
    assert fetch(**asked)[0] == 0
    assert artifact_digest(folder) == version.artifact_digest
    assert (folder / "MLmodel").stat().st_mtime_ns == kept, "what was right is not fetched again"
    # a file that is not the version's
    (folder / "stranger.py").write_text("import os")
    code, last, _ = fetch(**asked)
    assert (code, last["code"]) == (3, "digest_mismatch")


def test_what_is_there_can_be_compared_without_a_registry(registry: Registry, fetch: Fetch) -> None:
    version = registry.version()
    right = ("--check", "--digest", version.artifact_digest, "--to", str(registry.sources / "m"))
    assert fetch(*right)[0] == 0
    (registry.sources / "m" / "MLmodel").write_text("other")
    assert fetch(*right)[1]["code"] == "digest_mismatch"


@pytest.mark.parametrize(("token", "digest", "code"), [("plh_wrong", "", "token_refused"), ("", DIGEST, "unknown")])
def test_what_will_never_work_is_said_at_once(
    registry: Registry, fetch: Fetch, tmp_path: Path, token: str, digest: str, code: str
) -> None:
    version = registry.version()
    fetch.token = token or fetch.token
    arguments = ("--digest", digest or version.artifact_digest, "--to", str(tmp_path / "m"), "--url", registry.address)
    exit_code, last, _ = fetch(*arguments, "--token-file", str(tmp_path / "token"))
    assert (exit_code, last["code"]) == (3, code)
    assert not any((tmp_path / "m").iterdir())


@pytest.mark.parametrize(
    ("arguments", "word"),
    [((), "--digest"), (("--digest", DIGEST), "--to"), (("--digest", DIGEST, "--to", "x"), "--url"),
     (("--digest", DIGEST, "--to", "x", "--url", "http://a"), "API key")],
)  # fmt: skip
def test_what_is_missing_is_named(tmp_path: Path, arguments: tuple[str, ...], word: str) -> None:
    code, _, said = Fetch(tmp_path, "unused")(*arguments)
    assert code == 2
    assert word in said


Answer = tuple[int, dict[str, str], bytes]


@contextmanager
def bad_day(answer: Callable[[str, int], Answer]) -> Iterator[tuple[str, list[str]]]:
    """A registry made of ``answer(path, how many calls before)``: faults that a real one shows too seldom."""
    calls: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = answer(self.path, len(calls))
            calls.append(self.headers.get("Authorization", ""))
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", calls
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def run(url: str, folder: Path, waits: list[float] | None = None, digest: str = DIGEST) -> Path:
    settings = FetchSettings(digest, folder, url, "key")
    return fetch_artifact(settings, Reader(settings, sleep=(waits if waits is not None else []).append))


LISTING = json.dumps({"files": [{"path": "a", "is_dir": False, "file_size": 2}]}).encode()


def test_a_registry_that_is_busy_is_asked_again_when_it_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "right"
    folder.mkdir()
    (folder / "a").write_bytes(b"hi")

    def answer(path: str, before: int) -> Answer:
        if before < 2:
            return 429, {"Retry-After": "7"}, b"{}"
        return 200, {}, LISTING if "?path" in path else b"hi"

    waits: list[float] = []
    with bad_day(answer) as (url, _):
        run(url, tmp_path / "m", waits, artifact_digest(folder))
    assert len(waits) == 2
    assert all(wait >= 7 for wait in waits)


def test_a_registry_that_stays_away_is_given_up_as_a_fault_that_may_pass(tmp_path: Path) -> None:
    waits: list[float] = []
    with bad_day(lambda path, before: (503, {}, b"")) as (url, calls), pytest.raises(FetchFailedError):
        run(url, tmp_path / "m", waits)
    assert len(calls) == ATTEMPTS
    assert len(waits) == ATTEMPTS - 1
    assert max(waits) > 4 * min(waits), "longer and longer"


def test_bytes_that_differ_from_what_was_announced_are_never_kept(tmp_path: Path) -> None:
    def answer(path: str, before: int) -> Answer:
        return (200, {}, LISTING) if "?path" in path else (200, {"ETag": f'"{"0" * 64}"'}, b"hi")

    with bad_day(answer) as (url, calls), pytest.raises(FetchFailedError) as failed:
        run(url, tmp_path / "m")
    assert failed.value.code == "damaged"
    assert len(calls) == 1 + ATTEMPTS
    assert not any((tmp_path / "m").iterdir())


def test_a_cut_answer_is_asked_for_again(tmp_path: Path) -> None:
    def answer(path: str, before: int) -> Answer:
        return (200, {}, LISTING) if "?path" in path else (200, {"Content-Length": "99"}, b"hi")

    with bad_day(answer) as (url, calls), pytest.raises(FetchFailedError) as failed:
        run(url, tmp_path / "m")
    assert failed.value.code == "cut"
    assert len(calls) == 1 + ATTEMPTS
    assert not any((tmp_path / "m").iterdir())


def test_the_token_follows_no_redirect(tmp_path: Path) -> None:
    with (
        bad_day(lambda path, before: (200, {}, LISTING)) as (elsewhere, stolen),
        bad_day(lambda path, before: (302, {"Location": f"{elsewhere}/x"}, b"")) as (url, _),
        pytest.raises(FetchRefusedError) as refused,
    ):
        run(url, tmp_path / "m")
    assert refused.value.code == "redirected"
    assert stolen == []


@pytest.mark.parametrize("name", ["..", ".", "", "a/../../b", "/etc/passwd", "a\\b", "a\0b", 7, None])
def test_a_name_leads_nowhere_else(tmp_path: Path, name: object) -> None:
    listing = json.dumps({"files": [{"path": name, "is_dir": False, "file_size": 1}]}).encode()
    with bad_day(lambda path, before: (200, {}, listing)) as (url, _), pytest.raises(FetchRefusedError) as refused:
        run(url, tmp_path / "m")
    assert refused.value.code == "bad_listing"
    assert list(tmp_path.rglob("*")) == [tmp_path / "m"]


def test_more_than_the_disk_holds_is_refused_before_it_is_full(tmp_path: Path) -> None:
    listing = json.dumps({"files": [{"path": "a", "is_dir": False, "file_size": 2**60}]}).encode()
    with bad_day(lambda path, before: (200, {}, listing)) as (url, calls), pytest.raises(FetchRefusedError) as refused:
        run(url, tmp_path / "m")
    assert refused.value.code == "no_room"
    assert len(calls) == 1
