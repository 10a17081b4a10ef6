"""Why a version cannot be rolled out at an endpoint, in one sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apps.registry.selectors import drop_in_refusal

if TYPE_CHECKING:
    from apps.registry.models import ModelVersion
    from apps.targets.models import Endpoint


def unfit_sentence(version: ModelVersion, endpoint: Endpoint | None) -> str:
    """Empty when it fits, or when nothing is known yet that it would have to fit."""
    if version.status != "ready":
        return version.status_message or f"It is not ready ({version.status.replace('_', ' ')})."
    if endpoint is None or endpoint.stable_version is None or endpoint.model_id != version.model_id:
        return ""
    if endpoint.stable_version_id == version.pk:
        return f"It already serves {endpoint.name}."
    return drop_in_refusal(endpoint.stable_version, version)
