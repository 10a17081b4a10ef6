"""What a rollout sequence is to do: one version to several endpoints, wave after wave.

Inside a wave the endpoints go side by side, at most ``max_concurrent`` at a time; between two waves there is time to
look (``bake_seconds``), or a person says when (None). Each endpoint's own way is an ordinary rollout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from apps.kernel.canonical import sha256_of
from apps.kernel.errors import FieldError
from apps.rollouts.domain.validate import MAX_SECONDS

MAX_WAVES = 20
MAX_MEMBERS = 100


class OnFailure(StrEnum):
    """What happens to the members that are through when one fails: nothing, all of them go back, or those of the wave
    in which it failed and later ones."""

    STOP = "stop"
    ROLL_BACK = "roll_back"
    ROLL_BACK_WAVE = "roll_back_wave"


@dataclass(frozen=True, slots=True)
class Place:
    """One member: the endpoint, and the hash of the plan that its rollout is pinned to."""

    endpoint_id: str
    endpoint: str
    plan_hash: str = ""


@dataclass(frozen=True, slots=True)
class Wave:
    """``bake_seconds`` after it, before the next wave: 0 none, None until a person continues."""

    places: tuple[Place, ...]
    bake_seconds: int | None = 0


@dataclass(frozen=True, slots=True)
class SequencePlan:
    """The whole plan, pinned at the start. ``version`` and ``digest`` are the candidate's; ``max_concurrent`` None is
    all of a wave at once. ``is_approved_once``: one review of this plan answers the approval steps of every member."""

    waves: tuple[Wave, ...]
    version: str
    digest: str = ""
    on_failure: OnFailure = OnFailure.STOP
    max_concurrent: int | None = None
    is_approved_once: bool = False

    @property
    def plan_hash(self) -> str:
        return sha256_of(self.to_json())

    @property
    def places(self) -> tuple[Place, ...]:
        """Every member, wave after wave."""
        return tuple(place for wave in self.waves for place in wave.places)

    def to_json(self) -> dict[str, Any]:
        """The stored form; ``from_json`` is its inverse."""
        return {
            "version": self.version,
            "digest": self.digest,
            "on_failure": self.on_failure.value,
            "max_concurrent": self.max_concurrent,
            **({"approval": "once"} if self.is_approved_once else {}),
            "waves": [
                {
                    "bake_seconds": wave.bake_seconds,
                    "members": [
                        {"endpoint_id": one.endpoint_id, "endpoint": one.endpoint, "plan_hash": one.plan_hash}
                        for one in wave.places
                    ],
                }
                for wave in self.waves
            ],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SequencePlan:
        waves = tuple(
            Wave(tuple(Place(**member) for member in wave["members"]), wave["bake_seconds"]) for wave in data["waves"]
        )
        on_failure = OnFailure(data["on_failure"])
        once = data.get("approval") == "once"
        return cls(waves, data["version"], data["digest"], on_failure, data["max_concurrent"], once)

    def wave_of(self, endpoint_id: str) -> int:
        """The index of its wave."""
        return next(
            index for index, wave in enumerate(self.waves) for one in wave.places if one.endpoint_id == endpoint_id
        )


@dataclass(frozen=True, slots=True)
class WaveAsked:
    """A wave as it was asked for: endpoints by name or id."""

    endpoints: tuple[str, ...]
    bake_seconds: int | None = 0


def waves_errors(waves: Sequence[WaveAsked], max_concurrent: int | None) -> list[FieldError]:
    """What is wrong with the waves themselves, each with a JSON pointer; empty when nothing is."""
    found = []
    members = [name for wave in waves for name in wave.endpoints]
    if not waves:
        found.append(FieldError("/waves", "empty", "Name at least one wave with an endpoint."))
    if len(waves) > MAX_WAVES:
        found.append(FieldError("/waves", "too_many", f"{len(waves)} waves; {MAX_WAVES} are possible."))
    if len(members) > MAX_MEMBERS:
        found.append(FieldError("/waves", "too_many", f"{len(members)} endpoints; {MAX_MEMBERS} are possible."))
    if max_concurrent is not None and max_concurrent < 1:
        found.append(FieldError("/max_concurrent", "out_of_range", "At least one endpoint must go at a time."))
    seen: set[str] = set()
    for index, wave in enumerate(waves):
        at = f"/waves/{index}"
        if not wave.endpoints:
            found.append(FieldError(f"{at}/endpoints", "empty", f"Wave {index + 1} names no endpoint."))
        if wave.bake_seconds is not None and not 0 <= wave.bake_seconds <= MAX_SECONDS:
            said = f"Between two waves are 0 to {MAX_SECONDS:,} s, or null: until a person continues."
            found.append(FieldError(f"{at}/bake_seconds", "out_of_range", said))
        for place, name in enumerate(wave.endpoints):
            if name in seen:
                said = f"{name} is named twice; an endpoint is in one wave."
                found.append(FieldError(f"{at}/endpoints/{place}", "named_twice", said))
            seen.add(name)
    return found
