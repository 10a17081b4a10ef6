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


# Folders and files whose tests mostly wait for real programs; together a third of the time of all tests.
WAITING = TOGETHER | {"agent", "deploy", "embedded", "kubernetes", "test_journeys.py"}


class ByPlace(LoadScopeScheduling):  # type: ignore[misc]
    """A file goes to one process as a whole, a folder of TOGETHER too. One process at a time waits for real programs.

    The others compute meanwhile: left in their order, tests without a database come last, and then all processes wait
    at once for programs that are in each other's way.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        folder = PurePath(file).parent.name
        return folder if folder in TOGETHER else file

    def _assign_work_unit(self, node: Any) -> None:
        """The next file for ``node``: one that waits if no other process is at such a one, else one that computes."""
        elsewhere = [units for other, units in self.assigned_work.items() if other is not node]
        is_waited = any(waits(scope) and not all(unit.values()) for units in elsewhere for scope, unit in units.items())
        chosen = next((scope for scope in self.workqueue if waits(scope) is not is_waited), None)
        if chosen is not None:
            self.workqueue.move_to_end(chosen, last=False)
        super()._assign_work_unit(node)


def waits(scope: str) -> bool:
    path = PurePath(scope)
    return bool({path.name, path.parent.name} & WAITING)


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
