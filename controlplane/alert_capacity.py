"""What runs full, before it is: Pilothouse's disk, PostgreSQL's connections, Valkey's memory, the ingest buffer, the
memory of machines that run models, and the queues of their serving processes.

Each is looked at by itself: one that cannot be seen (no permission, no answer) leaves its own alerts as they are.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import Any, Final, cast

import redis
import structlog
from django.conf import settings
from django.db import DatabaseError, connection, transaction

from apps.accounts.domain.roles import Environment
from apps.alerts.domain.incidents import Severity
from apps.alerts.services.incidents import Observation
from apps.alerts.services.sources import Unseen
from apps.kernel.clock import now
from apps.kernel.errors import DomainError, DriverError, InvalidInput
from apps.kernel.live import redis_once
from apps.targets.domain.extras import Machine
from apps.targets.domain.plan import EndpointPlan, VariantSpec
from apps.targets.models import Endpoint, Target
from apps.targets.selectors import endpoint_list, observed_of, plan_of, target_list
from apps.targets.services.machines import machine_of
from apps.telemetry.domain.batch import ROUTES, SLOT_SECONDS
from apps.telemetry.domain.fill import LOOK_SECONDS, Fill
from apps.telemetry.domain.window import Window, WindowRequest
from apps.telemetry.models import IngestSource
from apps.telemetry.selectors import windows
from apps.telemetry.selectors.sources import ingest_losses
from apps.telemetry.services.fills import fills_told
from controlplane.alert_house import of_house

TICKET_SHARE, PAGE_SHARE = 0.80, 0.95
QUEUE_SECONDS: Final = 120
LOSS_SECONDS: Final = 300
STALLED_SECONDS: Final = 5
MACHINE_SECONDS, MACHINES_SECONDS = 2.0, 10.0
REFUSED_SHARE: Final = 0.01

log = structlog.get_logger(__name__)


def capacity_seen() -> Iterator[Observation | Unseen]:
    """Everything that is fuller than it should be, and what could not be looked at."""
    for what, look in PARTS.items():
        try:
            found = list(look())
        except (DatabaseError, redis.RedisError, DomainError, OSError, ValueError, LookupError) as fault:
            _blind(what, fault)
            yield Unseen(f"capacity:{what}")
        else:
            _BLIND.discard(what)
            yield from found


_BLIND: Final[set[str]] = set()
"""What this process has said that it cannot see: a right that is missing is not told every 15 seconds."""


def _blind(what: str, fault: Exception) -> None:
    if what not in _BLIND:
        _BLIND.add(what)
        log.warning("alert_capacity_unseen", part=what, error=f"{type(fault).__name__}: {fault}"[:300])


def _disk() -> Iterator[Observation]:
    """The disk of Pilothouse's own folder, as this worker sees it."""
    disk = shutil.disk_usage(settings.PILOTHOUSE_HOME)
    yield from _of_house(
        "disk", disk.used / disk.total, "The disk of Pilothouse fills",
        f"{disk.used / disk.total:.0%} of {disk.total / 1e9:,.0f} GB are used, {disk.free / 1e9:,.1f} GB are free; at "
        "100 % no model, log or upload can be stored.",
    )  # fmt: skip


_CONNECTIONS = """
    SELECT (SELECT count(*) FROM pg_stat_activity WHERE datid IS NOT NULL AND usesysid IS NOT NULL
              AND coalesce(backend_type, 'client backend') = 'client backend'),
           current_setting('max_connections')::int,
           current_setting('superuser_reserved_connections')::int
             + coalesce(current_setting('reserved_connections', true)::int, 0)
    """
"""Every role may ask: of other roles' connections it sees that they are there, and their kind as null."""


def _database() -> Iterator[Observation]:
    """Connections of everybody to PostgreSQL, of those that an ordinary role can get."""
    with transaction.atomic(), connection.cursor() as cursor:  # refused, it must not spoil the next query
        cursor.execute(_CONNECTIONS)
        used, most, kept = cursor.fetchone()
    room = max(1, most - kept)
    yield from _of_house(
        "database", used / room, "PostgreSQL runs out of connections",
        f"{used:,} of {room:,} connections are taken (max_connections {most:,}, {kept} kept for administrators); at "
        "100 % no page, API call, worker or report gets one.", {"connections": used, "connections_at_most": room},
    )  # fmt: skip


def _valkey() -> Iterator[Observation]:
    """Memory of Valkey (or Redis), where it has a limit. INFO, since CONFIG is often forbidden."""
    with redis_once() as client:
        memory = cast("dict[str, Any]", client.info("memory"))
    most = int(memory.get("maxmemory", 0))
    if not most:
        return
    # Buffers of replicas stand in used_memory and are not held against the limit.
    used = int(memory["used_memory"]) - int(memory.get("mem_not_counted_for_evict", 0))
    policy = str(memory.get("maxmemory_policy", "noeviction"))
    then = "nothing more can be queued" if policy == "noeviction" else f"messages and results may go ({policy})"
    yield from _of_house(
        "valkey", used / most, "The memory of Valkey fills",
        f"{used / 1e6:,.1f} of {most / 1e6:,.1f} MB are used (maxmemory); at 100 % {then}.",
        {"used_mb": round(used / 1e6, 1), "at_most_mb": round(most / 1e6, 1)},
    )  # fmt: skip


def _ingest() -> Iterator[Observation]:
    """The doors for telemetry: what found no room in a buffer, and one that is about to have none. One fault, so one
    alert. Losses are known by the database, which a door that cannot write to it cannot tell either."""
    moment = now()
    lost = ingest_losses(moment - timedelta(seconds=LOSS_SECONDS))
    try:
        fills = sorted(fills_told(), key=lambda one: one.peak.share, reverse=True)
    except (redis.RedisError, ValueError):
        if not lost:
            raise
        fills = []
    full = [one for one in fills if one.peak.share > TICKET_SHARE]
    if not (lost or full):
        return
    severity = Severity.PAGE if full and full[0].peak.share > PAGE_SHARE else Severity.TICKET
    said = [part for part in (_losses(lost, moment) if lost else "", _filled_up(full) if full else "") if part]
    facts: dict[str, float | str] = {}
    if lost:
        facts |= {
            "senders": len(lost), "endpoint": lost[0].endpoint, "variant": lost[0].variant,
            "lost_items": lost[0].dropped,
        }  # fmt: skip
    if full:
        fill = full[0]
        facts |= {
            "used_percent": round(100 * fill.peak.share, 1), "counted": fill.peak.what, "used": fill.peak.used,
            "at_most": fill.peak.limit, "process": fill.process, "stalled_seconds": fill.stalled_seconds,
        }  # fmt: skip
    title = "Telemetry is lost: the ingest buffer is full" if lost else "The ingest buffer fills"
    yield of_house("capacity", "ingest", title, " ".join(said), facts, severity)


def _losses(lost: Sequence[IngestSource], moment: datetime) -> str:
    newest, ago = lost[0], max(0.0, (moment - (lost[0].dropped_at or moment)).total_seconds())
    many = f"{len(lost)} senders" if len(lost) > 1 else "A sender"
    return (
        f"{many} lost reports within the last {LOSS_SECONDS // 60} min, the last one {ago:.0f} s ago: {newest.source} "
        f"of {newest.endpoint}, {newest.dropped:,} of {newest.received:,} items so far. What is lost is missing in "
        "charts, objectives and guardrails; another ingest process makes room."
    )


def _filled_up(full: Sequence[Fill]) -> str:
    """Of the fullest process, with how many others."""
    fill, others = full[0], len(full) - 1
    also = f" ({others} other process{'es' if others > 1 else ''} too)" if others else ""
    stalled = "it is emptied once a second"
    if fill.stalled_seconds >= STALLED_SECONDS:
        stalled = f"the database has not taken what waits for {fill.stalled_seconds:.0f} s"
    return (
        f"The buffer of process {fill.process}{also} was {fill.peak.share:.0%} full within the last "
        f"{LOOK_SECONDS:.0f} s: {fill.peak.used:,} of {fill.peak.limit:,} {fill.peak.what}; {stalled}. At 100 % "
        "reports are dropped."
    )


def _machines() -> Iterator[Observation | Unseen]:
    """Memory of the machines that node agents run models on. One that does not answer is told by its endpoints."""
    found: dict[str, tuple[Machine, list[Target]]] = {}
    began = monotonic()
    for target in target_list():
        if monotonic() - began > MACHINES_SECONDS:
            yield Unseen("capacity:machines")
            break
        try:
            machine = machine_of(target, seconds=MACHINE_SECONDS)
        except (DriverError, InvalidInput):
            yield Unseen(f"capacity:machines:{target.pk}")
            continue
        if machine is not None:
            found.setdefault(machine.address, (machine, []))[1].append(target)
    for machine, targets in found.values():
        yield from _of_machine(machine, targets)


def _of_machine(machine: Machine, targets: list[Target]) -> Iterator[Observation]:
    """Named by the first of its targets, those of production before all others."""
    share = 1 - machine.memory_available_bytes / max(1, machine.memory_bytes)
    if share <= TICKET_SHARE:
        return
    first = min(targets, key=lambda one: (one.environment != Environment.PRODUCTION, one.pk))
    is_page = share > PAGE_SHARE and first.environment == Environment.PRODUCTION
    yield Observation(
        key=f"capacity:machines:{first.pk}", source="capacity", team_id=None, environment=first.environment,
        subject_type="target", subject_id=first.pk, subject_name=first.name,
        severity=(Severity.PAGE if is_page else Severity.TICKET).value,
        title=f"The memory of {first.name} fills",
        summary=f"{share:.0%} of {machine.memory_bytes / 1e9:,.1f} GB are used, "
        f"{machine.memory_available_bytes / 1e9:,.2f} GB can still be had, on the machine of "
        f"{', '.join(sorted(one.name for one in targets))}; at 100 % the kernel ends serving processes.",
        facts={"used_percent": round(100 * share, 1), "memory_gb": round(machine.memory_bytes / 1e9, 1)},
        link="/settings/targets/",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Filled:
    """How one variant stood. ``in_flight``: requests that were in its processes at once, on average, waiting or being
    answered (the sum of their times over the time: Little's law). ``room``: how many are in them at least when their
    queues are full; micro-batches hold more."""

    spec: VariantSpec
    replicas: int
    window: Window
    is_called: bool

    @property
    def room(self) -> int:
        return self.replicas * self.spec.workers * (self.spec.limits.queue + 1)

    @property
    def in_flight(self) -> float:
        return self.window.latency.sum_seconds / QUEUE_SECONDS

    @property
    def share(self) -> float:
        return self.in_flight / self.room

    @property
    def refused(self) -> float:
        """The share of answers that were a 5xx and not the model's own: what a full queue answers."""
        return self.window.other_5xx / self.window.judged if self.window.judged else 0.0

    @property
    def is_refusing(self) -> bool:
        return self.is_called and self.refused >= REFUSED_SHARE

    @property
    def sentence(self) -> str:
        many = f"{self.replicas} replica{'s' if self.replicas > 1 else ''}"
        each = f"{self.spec.workers} worker{'s' if self.spec.workers > 1 else ''}"
        return (
            f"{self.spec.key}: {self.in_flight:,.1f} requests at once over the last {QUEUE_SECONDS // 60} min, "
            f"there is room for {self.room:,} ({many} with {each}, each answers one and lets "
            f"{self.spec.limits.queue:,} wait); "
            f"{self.window.other_5xx:,} of {self.window.judged:,} ({self.refused:.1%}) ended in a 5xx that is not the "
            "model's, as those do that find the queue full."
        )


def _queues() -> Iterator[Observation]:
    """Endpoints whose serving processes hold more requests than they should for two minutes. From what telemetry counts
    anyway; a burst of seconds that is refused within a quiet minute is a matter of the endpoint's objectives."""
    until = (int(now().timestamp()) // SLOT_SECONDS - 1) * SLOT_SECONDS
    planned = [(endpoint, plan) for endpoint in endpoint_list() if (plan := plan_of(endpoint)) is not None]
    routes, since = tuple(sorted(ROUTES)), until - QUEUE_SECONDS
    asked = [(endpoint.name, spec.key) for endpoint, plan in planned for spec in plan.variants]
    found = iter(windows([WindowRequest(name, key, routes, since=since, until=until) for name, key in asked]))
    for endpoint, plan in planned:
        called = [(spec, window) for spec, window in zip(plan.variants, found, strict=False) if window.total]
        full = [one for one in _filled(endpoint, plan, called) if one.share > TICKET_SHARE]
        if full:
            yield _of_endpoint(endpoint, max(full, key=_rank))


def _filled(endpoint: Endpoint, plan: EndpointPlan, called: Sequence[tuple[VariantSpec, Window]]) -> Iterator[Filled]:
    observed = observed_of(endpoint) if called else None
    ready = {one.key: one.ready_replicas for one in observed.variants} if observed else {}
    for spec, window in called:
        is_routed = plan.weight_bp(spec.key) > 0 or spec.key in plan.route.arms.values()
        yield Filled(spec, max(1, ready.get(spec.key, spec.replicas)), window, is_routed)


def _rank(one: Filled) -> tuple[bool, float]:
    return one.is_refusing, one.share


def _of_endpoint(endpoint: Endpoint, one: Filled) -> Observation:
    environment = endpoint.target.environment
    is_page = one.is_refusing and environment == Environment.PRODUCTION
    return Observation(
        key=f"capacity:queues:{endpoint.pk}", source="capacity", team_id=endpoint.team_id, environment=environment,
        subject_type="endpoint", subject_id=endpoint.pk, subject_name=endpoint.name,
        severity=(Severity.PAGE if is_page else Severity.TICKET).value,
        title=f"{endpoint.name} gets more requests than it can answer", summary=one.sentence,
        facts={
            "in_flight": round(one.in_flight, 1), "room": one.room,
            "refused_percent": round(100 * one.refused, 2), "variant": one.spec.key,
        },
        link=f"/endpoints/{endpoint.name}/",
    )  # fmt: skip


PARTS: Final[Mapping[str, Callable[[], Iterable[Observation | Unseen]]]] = {
    "disk": _disk, "database": _database, "valkey": _valkey, "ingest": _ingest, "machines": _machines,
    "queues": _queues,
}  # fmt: skip
"""By the second part of their alerts' keys."""


def _of_house(
    what: str, share: float, title: str, summary: str, facts: Mapping[str, float] | None = None
) -> Iterator[Observation]:
    """Nothing up to 80 %, a ticket above, a page above 95 %."""
    if share <= TICKET_SHARE:
        return
    severity = Severity.PAGE if share > PAGE_SHARE else Severity.TICKET
    counted = {"used_percent": round(100 * share, 1), **(facts or {})}
    yield of_house("capacity", what, title, summary, counted, severity)
