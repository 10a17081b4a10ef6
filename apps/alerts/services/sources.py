"""Sources that are looked at by the clock: each says every fault that it sees now; what it says no more is over.

Their objects belong to apps above this one, so whoever wires the product together (``controlplane/alert_sources.py``)
registers them. Sources that evaluate anyway (apps/slo) call ``incidents_observe`` themselves and are not listed here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import structlog
from django.db import DatabaseError, transaction

from apps.alerts.domain.incidents import IncidentState
from apps.alerts.models import Incident
from apps.alerts.services.incidents import Observation, incidents_observe
from apps.kernel.errors import DomainError

log = structlog.get_logger(__name__)
Source = Callable[[], Iterable[Observation]]
_SOURCES: dict[str, Source] = {}


def sources_register(sources: Mapping[str, Source]) -> None:
    """``{source: what it sees now}``; every observation it makes carries its name as ``source``."""
    _SOURCES.update(sources)


def sources_look() -> int:
    """Look at every source; how many incidents changed. One that fails leaves its alerts as they are and keeps no other
    from being looked at; then the first failure is raised, for the log of the worker."""
    changed = 0
    faults: list[Exception] = []
    for name, source in _SOURCES.items():
        try:
            with transaction.atomic():
                changed += len(_synchronise(name, list(source())))
        except (DatabaseError, DomainError, OSError, ValueError, LookupError) as fault:
            log.warning("alert_source_failed", source=name, error=type(fault).__name__)
            faults.append(fault)
    if faults:
        raise faults[0]
    return changed


def _synchronise(name: str, seen: list[Observation]) -> list[Incident]:
    keys = {one.key for one in seen}
    # Also what a person resolved and its source has not: that it is over is what lets it begin anew.
    rows = Incident.objects.filter(source=name).exclude(state=IncidentState.RESOLVED, has_cleared=True)
    gone = [_over(row) for row in rows if row.key not in keys]
    return incidents_observe([*(replace(one, source=name) for one in seen), *gone])


def _over(row: Incident) -> Observation:
    return Observation(
        row.key, row.source, row.team_id, row.environment, row.subject_type, row.subject_id, row.subject_name, None,
        row.title, row.summary,
    )  # fmt: skip
