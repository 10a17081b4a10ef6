"""Sources that are looked at by the clock: each says every fault that it sees now; what it says no more is over.

Their objects belong to apps above this one, so whoever wires the product together (``controlplane/alert_sources.py``)
registers them. Sources that evaluate anyway (apps/slo) call ``incidents_observe`` themselves and are not listed here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import structlog
from django.db import DatabaseError, transaction

from apps.alerts.domain.incidents import IncidentState
from apps.alerts.models import Incident
from apps.alerts.services.incidents import Observation, incidents_observe
from apps.kernel.errors import DomainError

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Unseen:
    """Faults that cannot be looked at now, by the beginning of their keys: their alerts stay as they are."""

    key: str


Source = Callable[[], Iterable[Observation | Unseen]]
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
            seen = list(source())  # before the transaction: it may ask other servers
            with transaction.atomic():
                changed += len(_synchronise(name, seen))
        except (DatabaseError, DomainError, OSError, ValueError, LookupError) as fault:
            log.warning("alert_source_failed", source=name, error=type(fault).__name__)
            faults.append(fault)
    if faults:
        raise faults[0]
    return changed


def _synchronise(name: str, said: Sequence[Observation | Unseen]) -> list[Incident]:
    seen = [one for one in said if isinstance(one, Observation)]
    keys = {one.key for one in seen}
    unseen = tuple(one.key for one in said if isinstance(one, Unseen))
    # Also what a person resolved and its source has not: that it is over is what lets it begin anew.
    rows = Incident.objects.filter(source=name).exclude(state=IncidentState.RESOLVED, has_cleared=True)
    gone = [_over(row) for row in rows if row.key not in keys and not row.key.startswith(unseen)]
    return incidents_observe([*(replace(one, source=name) for one in seen), *gone])


def _over(row: Incident) -> Observation:
    return Observation(
        row.key, row.source, row.team_id, row.environment, row.subject_type, row.subject_id, row.subject_name, None,
        row.title, row.summary,
    )  # fmt: skip
