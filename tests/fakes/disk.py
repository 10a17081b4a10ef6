"""A disk that is as full as a test says; the one of the machine that runs the tests is nobody's business."""

from __future__ import annotations

import shutil
from typing import NamedTuple

import pytest


class Disk(NamedTuple):
    total: int
    used: int
    free: int


def disk_has(monkeypatch: pytest.MonkeyPatch, *, used_percent: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(100, used_percent, 100 - used_percent))
