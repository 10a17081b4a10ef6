"""What a green summary means: everything ran, but for one thing that cannot run everywhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PASSED = '<testcase classname="t" name="a"/>'
NO_CLUSTER = "no Kubernetes API server: set KUBEBUILDER_ASSETS to a folder with etcd (1.36)"


def skip(reason: str) -> str:
    return f'<testcase classname="t" name="b"><skipped type="pytest.skip" message="{reason}"/></testcase>'


def run(tmp_path: Path, mode: str, *cases: str) -> subprocess.CompletedProcess[str]:
    report = tmp_path / "tests.xml"
    report.write_text(f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>")
    command = [sys.executable, str(ROOT / ".ci" / "judge.py"), str(report), mode]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_no_cluster_is_the_one_reason_to_skip_and_is_said_aloud(tmp_path: Path) -> None:
    found = run(tmp_path, "all", PASSED, skip(NO_CLUSTER), skip(NO_CLUSTER))
    assert found.returncode == 0, found.stderr
    assert "NOT RUN: 2 tests" in found.stdout
    assert "KUBEBUILDER_ASSETS" in found.stdout


@pytest.mark.parametrize(
    "cases",
    [
        (),
        (PASSED, skip("no chromium")),
        (PASSED, skip("no Kubernetes API server: KUBEBUILDER_ASSETS=/opt has no etcd")),
        (skip(NO_CLUSTER),),
        (PASSED, '<testcase classname="t" name="c"><failure/></testcase>'),
        (PASSED, skip(NO_CLUSTER), '<testcase classname="t" name="c"><error/></testcase>'),
    ],
)
def test_everything_else_is_red(tmp_path: Path, cases: tuple[str, ...]) -> None:
    assert run(tmp_path, "all", *cases).returncode == 1


def test_the_end_of_a_log_names_every_failure_and_what_it_said(tmp_path: Path) -> None:
    text = "first&#10;E  assert 1 == 2"
    failed = f'<testcase classname="t.m" name="c" time="3.2"><failure message="m">{text}</failure></testcase>'
    found = run(tmp_path, "all", failed, PASSED, skip(NO_CLUSTER))
    last = found.stdout.splitlines()[-4:]
    assert last == ["  failed: t.m::c: 3 s", "    m", "    first", "    E  assert 1 == 2"]


def test_a_long_traceback_keeps_the_places_in_our_tests(tmp_path: Path) -> None:
    text = "&#10;".join(["tests/browser/test_a.py:7: in test_a", *("library line" for _ in range(80))])
    failed = (
        f'<testcase classname="t.m" name="c" time="3.2"><failure message="Timeout 60000ms">{text}</failure></testcase>'
    )
    said = run(tmp_path, "all", failed).stdout
    assert said.index("Timeout 60000ms") < said.index("tests/browser/test_a.py:7") < said.index("library line")


def test_a_run_that_was_cut_short_is_judged_by_its_failures(tmp_path: Path) -> None:
    assert run(tmp_path, "finished", PASSED, skip("not reached")).returncode == 0
    assert run(tmp_path, "finished", '<testcase classname="t" name="c"><failure/></testcase>').returncode == 1


def test_the_reason_is_the_one_that_the_tests_give(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.targets.kubernetes.cluster import missing

    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    text = (ROOT / ".ci" / "judge.py").read_text()
    assert f"no Kubernetes API server: {missing()}".startswith(text.split('NO_CLUSTER = "')[1].split('"')[0])
