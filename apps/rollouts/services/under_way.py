"""What moves endpoints, for the services of targets: they must not pull the ground from under it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from apps.rollouts.domain.machine import ACTIVE, word_of
from apps.rollouts.domain.sequence import SEQUENCE_ACTIVE
from apps.rollouts.models import Rollout, SequenceMember
from apps.rollouts.services.lifecycle import starts_lock


def rollouts_under_way(endpoint_ids: Collection[str], is_held: bool) -> Mapping[str, Sequence[str]]:
    """Endpoint id -> its active rollouts and sequences by name, a rollout first. ``is_held``: nothing starts at these
    endpoints until the caller's transaction ends."""
    if is_held:
        starts_lock(endpoint_ids)
    found: dict[str, list[str]] = defaultdict(list)
    rollouts = Rollout.objects.filter(endpoint_id__in=endpoint_ids, phase__in=[phase.value for phase in ACTIVE])
    for endpoint_id, pk, phase in rollouts.order_by("created_at", "pk").values_list("endpoint_id", "pk", "phase"):
        found[endpoint_id].append(f"rollout {pk} ({word_of(phase)})")
    members = SequenceMember.objects.filter(
        endpoint_id__in=endpoint_ids, sequence__phase__in=[phase.value for phase in SEQUENCE_ACTIVE]
    )
    for endpoint_id, pk in members.order_by("sequence_id").values_list("endpoint_id", "sequence_id"):
        found[endpoint_id].append(f"sequence {pk}")
    return found
