"""Reading the rows of many rollouts for a look: three queries, and each JSON document parsed once per text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson
from django.db.models import F, TextField
from django.db.models.functions import Cast

from apps.registry.selectors import versions_in_bulk
from apps.rollouts.domain.plan import Plan
from apps.rollouts.domain.state import Memo
from apps.rollouts.models import Rollout
from apps.targets.domain.driver import Observed
from apps.targets.domain.observed import observed_from_json
from apps.targets.domain.plan import EndpointPlan
from apps.targets.selectors import targets_in_bulk

CACHED = 8192
"""Parsed documents kept per process and kind, by their text: a worker meets the same ones at every look."""


@dataclass(frozen=True, slots=True)
class Row:
    """A rollout's row with its JSON columns parsed; those are not loaded on ``rollout`` itself.

    ``memo`` and ``verdicts`` (of the findings) are as stored; ``desired`` and ``observed`` are the endpoint's.
    """

    rollout: Rollout
    plan: Plan
    memo: Memo
    verdicts: tuple[str, ...]
    desired: EndpointPlan | None
    observed: Observed | None


_UNREAD = ("signature", "input_constraints", "metrics", "params", "description", "status_message")
_PARSED = ("plan", "findings", "memo", "note", "endpoint__desired", "endpoint__observed")
# Each costs more to read than to compare: 5,000 rollouts are looked at every few seconds.
_UNUSED = (
    "created_at", "started_at", "finished_at", "acknowledged_at",
    "endpoint__created_at", "endpoint__observed_at", "endpoint__lease_until", "endpoint__reconcile_due_at",
)  # fmt: skip


def rollouts_read(ids: Iterable[str]) -> list[Row]:
    """The rows with everything a look needs, three queries. Wide JSON that no look reads is left in the database.

    Versions and targets are shared by many rollouts: read once each, not joined to every row.
    """
    rows = Rollout.objects.filter(pk__in=list(ids)).select_related("endpoint").defer(*_PARSED, *_UNUSED)
    texts = {name: Cast(F(column), TextField()) for name, column in _TEXTS.items()}
    found = [_row(one) for one in rows.annotate(**texts)]
    shown = {pk for one in found for pk in (one.rollout.stable_version_id, one.rollout.candidate_version_id)}
    shown |= {pk for one in found if (pk := one.rollout.endpoint.stable_version_id)}
    versions = versions_in_bulk(shown, unread=_UNREAD)
    targets = targets_in_bulk({one.rollout.endpoint.target_id for one in found})
    for rollout in (one.rollout for one in found):
        rollout.endpoint.target = targets[rollout.endpoint.target_id]
        rollout.stable_version = versions[rollout.stable_version_id]
        rollout.candidate_version = versions[rollout.candidate_version_id]
        if rollout.endpoint.stable_version_id is not None:
            rollout.endpoint.stable_version = versions[rollout.endpoint.stable_version_id]
    return found


_TEXTS = {
    "plan_text": "plan",
    "memo_text": "memo",
    "findings_text": "findings",
    "desired_text": "endpoint__desired",
    "observed_text": "endpoint__observed",
}


def _row(rollout: Rollout) -> Row:
    texts = vars(rollout)
    return Row(
        rollout,
        _plan(texts["plan_text"]),
        _memo(texts["memo_text"]),
        _verdicts(texts["findings_text"]),
        _desired(texts["desired_text"]),
        _observed(texts["observed_text"]),
    )


@lru_cache(maxsize=CACHED)
def _plan(stored: str) -> Plan:
    return Plan.from_json(orjson.loads(stored))


@lru_cache(maxsize=CACHED)
def _memo(stored: str) -> Memo:
    return Memo.from_json(orjson.loads(stored))


@lru_cache(maxsize=CACHED)
def _verdicts(stored: str) -> tuple[str, ...]:
    return tuple(one["verdict"] for one in orjson.loads(stored))


@lru_cache(maxsize=CACHED)
def _desired(stored: str) -> EndpointPlan | None:
    document = orjson.loads(stored)
    return EndpointPlan.from_json(document) if document else None


@lru_cache(maxsize=CACHED)
def _observed(stored: str | None) -> Observed | None:
    document = orjson.loads(stored) if stored else None
    return observed_from_json(document) if document else None


def look_is_good(rollout: Rollout) -> dict[str, Any]:
    """What a good look writes beside its own changes; nothing where nothing had failed."""
    found: dict[str, Any] = {}
    if rollout.look_error or rollout.look_failed_at is not None:
        found |= {"look_error": "", "look_failed_at": None}
    if rollout.asked is not None:
        found["asked"] = None
    return found
