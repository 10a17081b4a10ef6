"""Changes of objectives by people: rights, the entry in the log, a frame for open pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apps.accounts.services.access import access_require
from apps.audit.services.record import event_record
from apps.kernel.actor import Actor
from apps.kernel.services.outbox import publish_live
from apps.slo.models import Objective
from apps.slo.selectors import objective_get


def objective_require(actor: Actor, action: str, objective_id: str) -> Objective:
    """The objective, if ``actor`` may do ``action`` to it. Raises NotFound, Forbidden naming who can."""
    objective = objective_get(objective_id, actor)
    access_require(actor, action, objective.endpoint.team_id, objective.endpoint.target.environment)
    return objective


def objective_tell(objective: Objective) -> None:
    """Open pages refetch; in the transaction of the change."""
    publish_live(f"slo:{objective.endpoint_id}", id=objective.endpoint_id, revision=objective.revision)


def objective_record(actor: Actor, verb: str, objective: Objective, detail: Mapping[str, Any] | None = None) -> None:
    """The audit entry of a change, last in its transaction."""
    event_record(
        actor=actor,
        verb=verb,
        subject_kind="objective",
        subject_id=objective.pk,
        subject_label=f"{objective.endpoint.name}: {objective.name}",
        detail={"endpoint": objective.endpoint.name, **(detail or {})},
    )
