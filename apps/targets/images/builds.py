"""What a target says about a build of an image, and what a driver must do to offer builds. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from apps.targets.images.job import BuildOrder, BuildSettings


class BuildState(StrEnum):
    """``QUEUED``: wanted, not given to the target yet. The last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"


OPEN = (BuildState.QUEUED, BuildState.RUNNING)


@dataclass(frozen=True, slots=True)
class BuildSeen:
    """A build as it really is. ``digest`` of the pushed image once it succeeded; ``reason`` is one sentence."""

    state: BuildState
    digest: str = ""
    reason: str = ""


@runtime_checkable
class ImageBuilder(Protocol):
    """Can build images. ``build_settings`` is None where the connection does not say how."""

    @property
    def build_settings(self) -> BuildSettings | None: ...

    def build_start(self, order: BuildOrder) -> None:
        """Idempotent by the order's name. Raises DriverError; PlanRefused when it can never be taken."""

    def build_look(self, name: str) -> BuildSeen | None:
        """None when the target knows no such build. Raises DriverError."""

    def build_stop(self, name: str) -> None:
        """Idempotent. Raises DriverError."""
