"""Two hundred random experiments, and programs that share no line with the product: they decide the same."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.experiments.conftest import HAS_R, NO_R
from tests.experiments.lab import Lab
from tests.experiments.random_bundles import bundle

ALL, SOME, FEW = 200, 10, 5
with_r = pytest.mark.skipif(not HAS_R, reason=NO_R)
# One interpreter for all of them: importing scipy takes longer than most of what it is imported for.
RUN_ALL = """
import contextlib, io, runpy, sys
for folder in sys.argv[1:]:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        try:
            runpy.run_path(folder + "/reproduce.py", run_name="__main__")
        except SystemExit as ended:
            code = ended.code
    print(folder.rsplit("/", 1)[-1], code, said.getvalue().strip().splitlines()[-1])
"""


def _in_python(folders: list[Path]) -> list[str]:
    """What disagrees."""
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL, *map(str, folders)], capture_output=True, text=True, timeout=1500, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    assert len(lines) == len(folders)
    return [line for line in lines if " 0 " not in line]


def _in_r(folders: list[Path]) -> list[str]:
    """What disagrees. Two at a time: R takes longer to start than to decide."""

    def one(folder: Path) -> str:
        done = subprocess.run(
            ["Rscript", "--vanilla", str(folder / "reproduce.R")],
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        agrees = done.returncode == 0 and done.stdout.split()[-1:] == ["agrees"]
        return "" if agrees else f"{folder.name}: {done.stdout[-400:]} {done.stderr[-400:]}"

    with ThreadPoolExecutor(2) as pool:
        return [wrong for wrong in pool.map(one, folders) if wrong]


@pytest.mark.timeout(600)
def test_some_random_experiments_are_decided_again_from_their_bundles(lab: Lab, tmp_path: Path) -> None:
    folders = [bundle(lab, seed, tmp_path)[0] for seed in range(SOME)]
    assert _in_python(folders) == []


def test_a_bundle_with_one_changed_sum_does_not_agree(lab: Lab, tmp_path: Path) -> None:
    folder, _ = bundle(lab, 1, tmp_path)
    lines = (folder / "sums.csv").read_text().splitlines()
    cells = lines[1].split(",")
    cells[6] = repr(float(cells[6]) * 1.00001)
    (folder / "sums.csv").write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]) + "\n")
    assert len(_in_python([folder])) == 1


@pytest.mark.timeout(900)
@with_r
def test_some_random_experiments_are_decided_again_by_r(lab: Lab, tmp_path: Path) -> None:
    folders = [bundle(lab, seed, tmp_path)[0] for seed in range(FEW)]
    assert _in_r(folders) == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_hundred_random_experiments_are_decided_again_by_python(lab: Lab, tmp_path: Path) -> None:
    found = [bundle(lab, seed, tmp_path) for seed in range(ALL)]
    kinds = Counter(kind for _, kind in found)
    assert len(kinds) >= 5, kinds  # every answer that there is
    assert _in_python([folder for folder, _ in found]) == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
@with_r
def test_two_hundred_random_experiments_are_decided_again_by_r(lab: Lab, tmp_path: Path) -> None:
    assert _in_r([bundle(lab, seed, tmp_path)[0] for seed in range(ALL)]) == []
