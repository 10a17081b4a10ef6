from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.testing import RunningAgent, running_agent
from tests.agent.door import Door
from tests.agent.support import STUB


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[RunningAgent]:
    """A real agent with a real Envoy; its serving processes are the small stand-in program."""
    with running_agent(tmp_path, serving_command=STUB) as running:
        yield running


@pytest.fixture(scope="module")
def shared_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    """One agent for tests that only add endpoints of their own."""
    with running_agent(tmp_path_factory.mktemp("shared"), serving_command=STUB) as running:
        yield running


@pytest.fixture
def door() -> Iterator[Door]:
    found = Door()
    yield found
    found.close()
