"""The memory that an agent says its machine has: the kernel's numbers, or those of the container's limit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import pytest

from agent.machine import memory

GIB = 2**30


def test_the_agent_says_what_the_kernel_says(shared_agent: Any) -> None:
    said = shared_agent.api.get("/v1/machine").json()
    assert 0 < said["memory_available_bytes"] < said["memory_bytes"] <= psutil.virtual_memory().total
    assert shared_agent.api.post("/v1/machine").status_code == 405


def limited(folder: Path, limit: str, used: int, cache: int) -> Path:
    """A group of the kernel (cgroup v2) as files, at the place where the process's own list says."""
    group = folder / "system.slice" / "agent.service"
    group.mkdir(parents=True)
    (group / "memory.max").write_text(f"{limit}\n")
    (group / "memory.current").write_text(f"{used}\n")
    (group / "memory.stat").write_text(f"anon 1\ninactive_file {cache}\n")
    (folder / "own").write_text("1:cpu:/\n0::/system.slice/agent.service\n")
    return folder


def test_a_limit_of_the_container_is_the_machine_and_its_cache_can_be_had(tmp_path: Path) -> None:
    folder = limited(tmp_path, str(GIB // 8), GIB // 10, GIB // 20)
    assert memory(folder, folder / "own") == {
        "memory_bytes": GIB // 8,
        "memory_available_bytes": GIB // 8 - (GIB // 10 - GIB // 20),
    }


@pytest.mark.parametrize("limit", ["max", str(2**60), "nonsense"])
def test_without_a_limit_below_it_the_machine_is_the_machine(tmp_path: Path, limit: str) -> None:
    folder = limited(tmp_path, limit, GIB, 0)
    assert memory(folder, folder / "own")["memory_bytes"] == psutil.virtual_memory().total
    assert memory(tmp_path / "nowhere", tmp_path / "nowhere")["memory_bytes"] == psutil.virtual_memory().total
