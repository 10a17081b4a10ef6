"""The memory of the machine that models run on, as this agent and its processes may use it."""

from __future__ import annotations

from pathlib import Path

import psutil

CGROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def memory(cgroups: Path = CGROUPS, own: Path = _OWN) -> dict[str, int]:
    """``memory_bytes``, and ``memory_available_bytes`` of it: what can be had without swapping. In a container or a
    service with a limit (cgroup v2), the limit is the machine."""
    found = psutil.virtual_memory()
    total, available = int(found.total), int(found.available)
    limited = _limited(cgroups, own)
    if limited is not None and limited[0] < total:
        total, available = limited[0], max(0, min(available, limited[0] - limited[1]))
    return {"memory_bytes": total, "memory_available_bytes": available}


def _limited(cgroups: Path, own: Path) -> tuple[int, int] | None:
    """(limit, used without the cache that the kernel gives back) of the own group; None where it has no limit."""
    try:
        group = next(line[3:].strip() for line in own.read_text().splitlines() if line.startswith("0::"))
        folder = cgroups / group.lstrip("/")
        limit = (folder / "memory.max").read_text().strip()
        used = int((folder / "memory.current").read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return (int(limit), used - int(stat.get("inactive_file", 0))) if limit.isdigit() else None
    except (OSError, ValueError, StopIteration):
        return None
