"""Rows as the pages need them."""

from __future__ import annotations

from collections.abc import Iterable

from apps.rollouts.models import Transition


def latest_transitions(rollout_ids: Iterable[str], limit: int = 200) -> list[Transition]:
    """Transitions of several rollouts, newest first, without their evidence (it is large and seldom opened)."""
    found = Transition.objects.filter(rollout_id__in=list(rollout_ids)).select_related("rollout__candidate_version")
    return list(found.defer("state", "seen", "decision").order_by("-id")[:limit])
