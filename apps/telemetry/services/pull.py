"""Pull sources: who is asked, how it is configured, and one asking.

A variant whose serving process reports by itself is left to it: its requests would be counted twice. What was taken
moves ``asked_until`` in the transaction that writes the slots, by compare-and-swap, so two observers that ask at the
same time, or one that dies in between, count everything once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q

from apps.kernel.clock import now
from apps.kernel.errors import DriverError
from apps.kernel.vault import Place, open_sealed
from apps.telemetry.domain.batch import ROUTES, SlotBatch
from apps.telemetry.domain.cells import Cell, CellKey, merged
from apps.telemetry.domain.known import Known
from apps.telemetry.drivers.base import MetricSource, Pulled, texts
from apps.telemetry.drivers.cloudwatch import CloudWatch
from apps.telemetry.drivers.prometheus import Prometheus
from apps.telemetry.models import PullSource, Source
from apps.telemetry.services.intake import known_read
from apps.telemetry.services.slots import slots_add

DRIVERS: dict[str, Callable[..., MetricSource]] = {"prometheus": Prometheus, "cloudwatch": CloudWatch}
MARK = "pull/"
FIRST_SECONDS = 60.0
STRETCH_SECONDS = 600.0
OLDEST_SECONDS = 47 * 3600.0
MAX_BACKOFF_SECONDS = 300


def driver_of(source: PullSource) -> MetricSource:
    """The driver with its configuration and opened secret."""
    token = open_sealed(source.token, token_place(source.pk)) if source.token else ""
    return DRIVERS[source.kind](source.endpoint.name, source.config, token)


def token_place(source_id: str) -> Place:
    return Place("telemetry_pullsource", source_id, "token")


def pulls_due() -> list[str]:
    """Ids of the sources whose time has come."""
    due = PullSource.objects.filter(is_enabled=True, due_at__lte=now(), endpoint__removed_at=None)
    return list(due.order_by("due_at").values_list("pk", flat=True))


def pull(source_id: str, notify: Callable[[set[str]], None] | None = None) -> int:
    """Ask one source once; returns how many slots were written, of which ``notify`` hears (the endpoint's name) after
    the commit. A fault is stored, not raised.

    1. claim it by moving ``due_at`` on; 2. ask, outside any transaction; 3. drop variants that report by themselves and
    ones that nobody knows; 4. write slots, ``asked_until`` and the outcome together, unless somebody else was first.
    """
    source = _claimed(source_id)
    if source is None:
        return 0
    try:
        driver = driver_of(source)
        since, until = _stretch(source, driver)
        if until <= since:
            return 0  # asked a moment ago
        pulled = _pulled(driver, since, until)
    except DriverError as error:
        _failed(source, error)
        return 0
    cells, skipped = _taken(source, pulled)
    written = _stored(source, pulled, cells, skipped)
    if written and notify is not None:
        notify({source.endpoint.name})
    return written


def _pulled(driver: MetricSource, since: float, until: float) -> Pulled:
    """Numbers that no request can have made (1e300 of them) are a fault of the source, not of the observer."""
    try:
        return driver.pull(since=since, until=until)
    except (ValueError, OverflowError) as error:
        raise DriverError("bad_numbers", f"The source gave numbers that cannot be counted: {error}.") from error


def _claimed(source_id: str) -> PullSource | None:
    moment = now()
    found = PullSource.objects.filter(pk=source_id, is_enabled=True, due_at__lte=moment, endpoint__removed_at=None)
    row = found.select_related("endpoint").first()
    if row is None:
        return None
    later = moment + timedelta(seconds=row.interval_seconds)
    if not PullSource.objects.filter(pk=row.pk, due_at=row.due_at).update(due_at=later, asked_at=moment):
        return None
    return row


def _stretch(source: PullSource, driver: MetricSource) -> tuple[float, float]:
    """What to ask for: from where it ended, at most ten minutes at a time, at first the last minute."""
    moment = now().timestamp()
    until = float(int(moment - driver.delay_seconds))
    since = source.asked_until or until - FIRST_SECONDS
    since = max(since, moment - OLDEST_SECONDS)
    return since, min(until, since + STRETCH_SECONDS)


def _taken(source: PullSource, pulled: Pulled) -> tuple[dict[CellKey, Cell], list[dict[str, str]]]:
    known, names = known_read(), texts(source.config, "variants")
    endpoint = source.endpoint.name
    reporting = reporting_variants(endpoint)
    parts: list[tuple[CellKey, Cell]] = []
    skipped: dict[str, str] = {}
    for one in pulled.cells:
        key, why = _variant(known, endpoint, names.get(one.variant, one.variant), reporting)
        if why:
            skipped[one.variant] = why
            continue
        period = known.endpoints[endpoint].period_at(one.slot_at)
        route = one.route if one.route in ROUTES else "weighted"
        parts.append((CellKey(endpoint, key, route, period, one.slot_at), one.cell))
    return merged(parts), [{"variant": name[:63], "reason": why} for name, why in sorted(skipped.items())]


def _variant(known: Known, endpoint: str, name: str, reporting: set[str]) -> tuple[str, str]:
    _, key, why = known.find(endpoint, name)
    return key, why or ("reports_itself" if key in reporting else "")


def _stored(source: PullSource, pulled: Pulled, cells: Mapping[CellKey, Cell], skipped: list[dict[str, str]]) -> int:
    moment = now()
    facts: dict[str, Any] = {"failed_since": None, "fault": "", "skipped": skipped, "asked_until": pulled.until}
    if pulled.newest is not None:
        facts |= {"newest_at": datetime.fromtimestamp(pulled.newest, UTC), "resolution": pulled.resolution}
    if moment.timestamp() - pulled.until > 2 * STRETCH_SECONDS:
        facts["due_at"] = moment  # it was away for long: go on at once
    with transaction.atomic():
        # Somebody else took this stretch, or the source was changed meanwhile: what was asked for is void.
        mine = PullSource.objects.filter(pk=source.pk, asked_until=source.asked_until, revision=source.revision)
        if not mine.update(**facts):
            return 0
        if cells:
            slots_add(_batches(source.pk, pulled.until, cells))
    return len(cells)


def _batches(source_id: str, until: float, cells: Mapping[CellKey, Cell]) -> list[SlotBatch]:
    grouped: dict[tuple[str, str], list[CellKey]] = {}
    for key in cells:
        grouped.setdefault((key.endpoint, key.variant), []).append(key)
    return [
        SlotBatch(
            source=f"{MARK}{source_id}/{variant}"[:120], seq=int(until), endpoint=endpoint, variant=variant,
            slots=tuple(cells[key].delta(key) for key in keys),
        )
        for (endpoint, variant), keys in sorted(grouped.items())
    ]  # fmt: skip


def _failed(source: PullSource, error: DriverError) -> None:
    """Keep the fault and wait longer the longer it lasts; what cannot help is still asked, slowly: people repair."""
    moment = now()
    since = source.failed_since or moment
    wait = min(MAX_BACKOFF_SECONDS, max(source.interval_seconds, int((moment - since).total_seconds())))
    if not error.is_retryable:
        wait = MAX_BACKOFF_SECONDS
    PullSource.objects.filter(pk=source.pk, revision=source.revision).update(
        failed_since=since, fault=error.detail[:500], due_at=moment + timedelta(seconds=wait)
    )


def reporting_variants(endpoint: str) -> set[str]:
    """Variants whose own processes report: no pull source writes for them."""
    own = Q(endpoint=endpoint) & ~Q(source__startswith=MARK)
    return set(Source.objects.filter(own).values_list("variant", flat=True))
