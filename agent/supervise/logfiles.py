"""The children's logs: kept, limited, read from the end."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import structlog

log = structlog.get_logger("agent.logs")

MAX_BYTES = 8 * 1024 * 1024
MOST_OLD_LOGS = 20
_TAIL_BYTES = 128 * 1024


def limit_log(path: Path, max_bytes: int = MAX_BYTES) -> bool:
    """Keep one older file (`.1`) and start over when the log is too large; True when it was.

    The child keeps its descriptor and goes on appending; lines written between copy and truncate are lost.
    """
    try:
        if path.stat().st_size <= max_bytes:
            return False
        shutil.copyfile(path, path.with_name(path.name + ".1"))
        with path.open("r+b") as stream:
            stream.truncate(0)
    except OSError:
        # A full disk must not stop supervision; the next round tries again.
        return False
    return True


def forget_old_logs(logs: Path, in_use: Collection[Path], most: int = MOST_OLD_LOGS) -> None:
    """Of each endpoint's folder below `logs`, remove all but the `most` newest logs of processes that are no more.

    They say why a version went back, so the newest stay; but every rollout leaves another one.
    """
    kept = {*in_use, *(path.with_name(path.name + ".1") for path in in_use)}
    try:
        for folder in logs.glob("*/"):
            ended = [path for path in folder.iterdir() if path not in kept]
            ended.sort(key=lambda path: path.stat().st_mtime, reverse=True)
            for path in ended[most:]:
                path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("old_logs_not_removed", error=str(error))


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def tail(path: Path, lines: int, offset: int = 0) -> list[str]:
    """The last `lines` lines written after byte `offset` (what an earlier process wrote is left out)."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            start = offset if offset <= size else 0
            first = max(start, size - _TAIL_BYTES)
            stream.seek(first)
            content = stream.read()
    except OSError:
        return []
    found = content.decode("utf-8", errors="replace").splitlines()
    # Reading began inside a line, so the first one is a fragment.
    whole = found[1:] if first > start else found
    return whole[-lines:] if lines > 0 else []


def start_failure(lines: list[str]) -> dict[str, Any] | None:
    """The newest `start_failed` line of a serving process (contracts.md section 4), decoded."""
    for line in reversed(lines):
        if "start_failed" not in line:
            continue
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict) and value.get("event") == "start_failed":
            return value
    return None
