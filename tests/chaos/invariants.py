"""What must hold after any crash, read from PostgreSQL. Each answer is a list of sentences; an empty one is good."""

from __future__ import annotations

import json
from itertools import pairwise

from django.db.models import Count

from apps.audit.models import Event
from apps.audit.selectors import chain_first_bad
from apps.kernel.canonical import canonical_json
from apps.rollouts.domain.decide import decide
from apps.rollouts.domain.machine import ACTIVE, TERMINAL, Phase, action_json
from apps.rollouts.domain.state import RolloutState, Seen
from apps.rollouts.models import Rollout, Transition
from apps.rollouts.services.record import code_hash
from apps.targets.domain.plan import FULL_BP

BACKWARD = frozenset({"RollBack", "Supersede", "Fail", "Conclude", "Settle"})


def broken_invariants() -> list[str]:
    """Everything that is wrong in this database; the endpoints may be at work."""
    found = [*_two_at_once(), *_wanted_weights(), *_chain()]
    for rollout in Rollout.objects.all():
        found += [f"{rollout.pk}: {wrong}" for wrong in (*_story(rollout), *_replay(rollout))]
    return found


def _two_at_once() -> list[str]:
    moving = [phase.value for phase in ACTIVE - {Phase.PENDING}]
    rows = Rollout.objects.filter(phase__in=moving).values("endpoint").annotate(count=Count("pk"))
    return [f"{row['count']} rollouts move {row['endpoint']}" for row in rows if row["count"] > 1]


def _wanted_weights() -> list[str]:
    """Every plan that was ever desired, from the audit log."""
    found = []
    for event in Event.objects.filter(verb="endpoint.desired").order_by("seq"):
        weights, variants = event.detail["weights_bp"]["to"], event.detail["variants"]
        if weights and sum(weights.values()) != FULL_BP:
            found.append(f"generation {event.detail['generation']} of {event.subject_label} sums to {weights}")
        if not set(weights) <= set(variants):
            found.append(f"generation {event.detail['generation']} routes to {weights}, it runs {variants}")
    return found


def _chain() -> list[str]:
    first_bad = chain_first_bad()
    return [] if first_bad is None else [f"the audit chain breaks at {first_bad}"]


def _story(rollout: Rollout) -> list[str]:
    """Transitions join without a gap, the weight falls only on the way back, and it ends once."""
    rows = list(Transition.objects.filter(rollout=rollout).order_by("revision"))
    found = []
    if [row.revision for row in rows] != list(range(2, 2 + len(rows))):
        found.append(f"revisions {[row.revision for row in rows]}")
    if rows and (rows[0].from_phase != Phase.PENDING or rows[-1].to_phase != rollout.phase):
        found.append(f"transitions lead from {rows[0].from_phase} to {rows[-1].to_phase}, the row says {rollout.phase}")
    for before, after in pairwise(rows):
        if before.to_phase != after.from_phase:
            found.append(f"{before.revision} ends in {before.to_phase}, {after.revision} begins in {after.from_phase}")
        if after.weight_bp < before.weight_bp and after.action not in BACKWARD:
            found.append(f"{after.action} lowers the weight from {before.weight_bp} to {after.weight_bp}")
        if (after.generation, after.epoch) < (before.generation, 0):
            found.append(f"generation {after.generation} follows {before.generation}")
    ends = [row.revision for row in rows if row.to_phase in TERMINAL]
    if ends not in ([], [rows[-1].revision] if rows else []):
        found.append(f"it ended at revisions {ends} of {len(rows) + 1}")
    return found


def _replay(rollout: Rollout) -> list[str]:
    """Every stored decision, taken again from its stored evidence, is the same byte for byte."""
    found = []
    for row in Transition.objects.filter(rollout=rollout):
        if row.code_hash != code_hash():
            found.append(f"revision {row.revision} was decided by other code")
            continue
        state, seen = RolloutState.from_json(json.loads(row.state)), Seen.from_json(json.loads(row.seen))
        if canonical_json(action_json(decide(state, seen))) != row.decision:
            found.append(f"revision {row.revision} is decided otherwise now")
    return found
