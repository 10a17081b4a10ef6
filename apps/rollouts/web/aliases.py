"""What a rollout does with the aliases of its model, in one sentence: by itself it moves none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from apps.registry.selectors.pages import aliases_of
from apps.registry.services.promotion import promotion_get
from apps.rollouts.domain.machine import TERMINAL, Phase
from apps.rollouts.models import Rollout

if TYPE_CHECKING:
    from apps.registry.models import ModelVersion


def aliases_sentence(rollout: Rollout) -> str:
    """Reads the endpoint's model and the aliases of it: two queries at most."""
    if rollout.promotion_id:
        alias = promotion_get(rollout.promotion_id).alias
        candidate = rollout.candidate_version.reference
        return f"Started by the approved move of {alias} to {candidate}: the alias moved when it was approved."
    endpoint = rollout.endpoint
    places = {row.name: row.version for row in aliases_of([endpoint.model])}
    if not places:
        return f"{_moves(Phase(rollout.phase))}; {endpoint.model.name} has none."
    return f"{_moves(Phase(rollout.phase))}: {_standing(rollout, places)}. {_follows(endpoint.name, endpoint.follows)}"


def _moves(phase: Phase) -> str:
    if phase is Phase.PROMOTED:
        return "The promotion moved no alias"
    return "It moved no alias" if phase in TERMINAL else "Promoting moves no alias"


def _standing(rollout: Rollout, places: Mapping[str, ModelVersion]) -> str:
    is_over = rollout.phase in TERMINAL
    said = []
    for name, version in places.items():
        stays = not is_over and version.pk == rollout.stable_version_id
        said.append(f"{name} {'stays on' if stays else 'is on'} {version.semver or f'v{version.number}'}")
    return ", ".join(said)


def _follows(endpoint: str, follows: str) -> str:
    if not follows:
        return f"{endpoint} follows no alias."
    return f"{endpoint} follows {follows}: an approved move of it starts a rollout here, not the other way round."
