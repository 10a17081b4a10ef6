"""What every test shares: real servers, and a group that cannot run is named with its count and the way out."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import PurePath
from typing import Any

import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.audit.flushable import django_db_setup  # noqa: F401  wraps the fixture of that name

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_cannot_run: Counter[str] = Counter()

# The same examples every time, so that a change is judged by what it changes; `make test-slow` looks for new ones.
# No deadlines and no complaint that drawing is slow: both measure what else the machine does.
for name, is_same in (("same", True), ("search", False)):
    hypothesis.settings.register_profile(
        name, derandomize=is_same, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
hypothesis.settings.load_profile("same")


# Folders whose tests share something that is slow to start: with several processes they stay in one.
TOGETHER = frozenset({"chaos", "serving"})


class ByPlace(LoadScopeScheduling):  # type: ignore[misc]
    """A file goes to one process as a whole, a folder of TOGETHER too."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        folder = PurePath(file).parent.name
        return folder if folder in TOGETHER else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByPlace:
    return ByPlace(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if CHROMIUM:
        return
    for item in items:
        if item.get_closest_marker("browser"):
            _cannot_run["browser: install Chromium (Debian: apt-get install chromium)"] += 1
            item.add_marker(pytest.mark.skip(reason="no Chromium"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for group, count in _cannot_run.items():
        terminalreporter.write_line(f"COULD NOT RUN: {count} tests of group {group}", red=True)
