"""What somebody else did at a target, and how it was put right: told once each, in the audit log and on the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from apps.audit.selectors import events_of
from apps.audit.services.record import event_record
from apps.kernel.actor import SYSTEM
from apps.targets.domain.driver import THE_ROUTE, HandChange, Observed
from apps.targets.domain.observed import observed_from_json
from apps.targets.models import Endpoint

DIVERGED, HEALED = "endpoint.diverged", "endpoint.healed"
UNKNOWN = HandChange("everything that Pilothouse keeps there about this endpoint")
READ = 100


@dataclass(frozen=True, slots=True)
class Divergence:
    """One entry: what was changed, or put right, in one sentence."""

    at: datetime
    is_healed: bool
    sentence: str


@dataclass(frozen=True, slots=True)
class Told:
    """What one observation says anew. ``standing`` are the changes as they are kept in the row, those that the log has
    marked as told."""

    standing: tuple[HandChange, ...] = ()
    new: tuple[HandChange, ...] = ()
    gone: tuple[HandChange, ...] = ()


def changes_told(stored: Endpoint, observed: Observed | None) -> Told:
    """Compare with what was stored before. Reads the log where nothing was stored.

    A change is somebody's doing only where the target had accepted all of the present plan: until then what is missing
    is what we have not written yet.
    """
    before = _known(stored)
    now = _there(stored, observed)
    is_present = observed is None or observed.generation == stored.generation
    is_whole = is_present and (stored.applied_generation == stored.generation or bool(before))
    standing, new = [], []
    for change in now:
        is_known = any(change.same_as(one) for one in before)
        is_new = is_whole and not is_known and (change.object != THE_ROUTE or _had_route(stored))
        standing.append(replace(change, is_told=is_known or is_new))
        if is_new:
            new.append(change)
    gone = [one for one in before if not any(one.same_as(change) for change in now)]
    return Told(tuple(standing), tuple(new), tuple(gone))


def changes_record(endpoint: Endpoint, told: Told) -> None:
    """Into the audit log, in the transaction that stores the observation; last in it."""
    if told.new:
        _record(endpoint, DIVERGED, told.new)
    if told.gone:
        _record(endpoint, HEALED, told.gone)


def endpoint_divergences(endpoint_id: str, limit: int = 12) -> list[Divergence]:
    """The newest of them, newest first; one query."""
    found = [event for event in events_of("endpoint", endpoint_id, limit=READ) if event.verb in {DIVERGED, HEALED}]
    return [Divergence(event.at, event.verb == HEALED, str(event.detail["reason"])) for event in found[:limit]]


def _known(stored: Endpoint) -> tuple[HandChange, ...]:
    if stored.observed is None:
        return (UNKNOWN,) if stored.observed_at is not None and _is_lost(stored.pk) else ()
    return tuple(one for one in observed_from_json(stored.observed).changes if one.is_told)


def _had_route(stored: Endpoint) -> bool:
    """Under the present plan: a route that is missing at the start has not been made yet."""
    before = stored.observed or {}
    return before.get("generation") == stored.generation and bool(before.get("route"))


def _is_lost(endpoint_id: str) -> bool:
    """Whether the newest entry says that the target knows nothing of the endpoint any more."""
    entries = (one for one in events_of("endpoint", endpoint_id, limit=READ) if one.verb in {DIVERGED, HEALED})
    newest = next(entries, None)
    return newest is not None and newest.verb == DIVERGED and UNKNOWN.object in str(newest.detail["reason"])


def _there(stored: Endpoint, observed: Observed | None) -> tuple[HandChange, ...]:
    if observed is None:
        return () if stored.removed_at is not None else (UNKNOWN,)
    return observed.changes


def _record(endpoint: Endpoint, verb: str, changes: Sequence[HandChange]) -> None:
    reason = "; ".join(_words(verb, change) for change in changes)
    detail: dict[str, Any] = {
        "reason": reason,
        "generation": endpoint.generation,
        "changes": [{key: value for key, value in asdict(one).items() if key != "is_told"} for one in changes],
    }
    event_record(
        actor=SYSTEM,
        verb=verb,
        subject_kind="endpoint",
        subject_id=endpoint.pk,
        subject_label=endpoint.name,
        detail=detail,
    )


def _words(verb: str, change: HandChange) -> str:
    if verb == DIVERGED:
        if not change.field:
            return f"{change.sentence} any more: it is made again"
        policy = "taken back" if change.is_healed else "left as it is, by the target's policy (conflicts: hold)"
        return f"{change.sentence}: {policy}"
    if not change.field:
        return f"{change.object} was made again"
    if change.is_healed:
        return f"{change.object}: {change.field} was taken back to {change.wanted}"
    return f"{change.object}: {change.field} is as desired again ({change.wanted}); Pilothouse did not force it"
