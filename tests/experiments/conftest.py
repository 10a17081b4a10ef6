"""A laboratory for every test that asks; the test database lets Django empty the audit log between tests.

Where R is missing, the summary of the run says so in as many words: a skipped test is easily overlooked.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.audit.flushable import django_db_setup
from tests.experiments.lab import Lab, opened

__all__ = ["django_db_setup"]

HAS_R = shutil.which("Rscript") is not None
NO_R = "R IS NOT INSTALLED HERE: bundles were decided again by Python alone (install r-base-core for the other half)"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not HAS_R:
        terminalreporter.write_line(NO_R, red=True, bold=True)


@pytest.fixture
def lab(db: None, tmp_path: Path) -> Iterator[Lab]:
    with opened(tmp_path) as found:
        yield found
