"""Which file of the suite goes to which process."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from tests.conftest import ByPlace

FILES = ("web/test_page", "web/test_form", "agent/test_one", "web/test_list", "deploy/test_two", "web/test_look")
TESTS = [f"tests/{file}.py::test_{number}" for file in FILES for number in range(4)]


@dataclass(eq=False)
class Process:
    """As xdist sees one: it is sent numbers of tests, and says when one is done."""

    gateway: Any = field(default_factory=lambda: SimpleNamespace(id="gw"))
    sent: list[int] = field(default_factory=list)
    shutting_down: bool = False

    def send_runtest_some(self, indices: list[int]) -> None:
        self.sent += indices

    def shutdown(self) -> None:
        self.shutting_down = True

    def files(self) -> list[str]:
        return list(dict.fromkeys(TESTS[number].partition("::")[0][6:-3] for number in self.sent))


def scheduling(*processes: Process) -> ByPlace:
    option = SimpleNamespace(loadscopereorder=False)
    config: Any = SimpleNamespace(getvalue=lambda name: ["popen"] * len(processes), option=option)
    found = ByPlace(config)
    for one in processes:
        found.add_node(one)  # type: ignore[arg-type]
        found.add_node_collection(one, TESTS)  # type: ignore[arg-type]
    found.schedule()
    return found


def finish(found: ByPlace, process: Process, count: int) -> None:
    """As many tests as that, of what it was sent and of what it is sent meanwhile."""
    for place in range(count):
        found.mark_test_complete(process, process.sent[place])  # type: ignore[arg-type]


def test_one_process_waits_for_real_programs_while_the_other_computes() -> None:
    first, second = Process(), Process()
    found = scheduling(first, second)
    assert first.files() == ["agent/test_one"], "what waits begins with the run, though it was collected later"
    assert second.files() == ["web/test_page"]
    finish(found, second, 8)
    assert second.files() == ["web/test_page", "web/test_form", "web/test_list"], "nothing that waits beside another"
    finish(found, first, 4)
    assert first.files() == ["agent/test_one", "deploy/test_two"]


def test_what_is_left_is_done_by_whoever_is_free() -> None:
    first, second = Process(), Process()
    found = scheduling(first, second)
    finish(found, second, 16)
    assert second.files() == [*(file for file in FILES if file.startswith("web")), "deploy/test_two"]
    alone = Process()
    found = scheduling(alone)
    finish(found, alone, len(TESTS))
    assert sorted(alone.files()) == sorted(FILES)
