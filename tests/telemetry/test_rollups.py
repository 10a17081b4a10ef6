"""Roll-ups say what the slots said, to the last bit, whatever order things happen in and wherever they are killed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection, connections

from apps.audit.models import Event
from apps.kernel.actor import SYSTEM
from apps.kernel.clock import set_clock
from apps.kernel.stats.histogram import ExponentialHistogram
from apps.telemetry.domain.batch import SlotBatch, SlotDelta
from apps.telemetry.domain.levels import LEVELS, chart_step, level_of, parse_retention
from apps.telemetry.domain.window import WindowRequest
from apps.telemetry.models import RollUp, RollUpMark, Slot, Source
from apps.telemetry.selectors import tallies, windows
from apps.telemetry.services.rollups import rollups_discover, rollups_due, rollups_rebuild
from apps.telemetry.services.slots import slots_add

DAY = 86_400
START = 20_000 * DAY
"""Midnight, UTC, in October 2024."""
ENDPOINT = "late-arrival"


class Hands:
    """A clock that a test moves by hand."""

    def __init__(self) -> None:
        self.at = float(START)

    def __call__(self) -> datetime:
        return datetime.fromtimestamp(self.at, UTC)


@pytest.fixture
def hands() -> Iterator[Hands]:
    clock = Hands()
    with set_clock(clock):
        yield clock


_seq = iter(range(1, 1_000_000))


def delta(at: int, latencies: list[float], *, route: str = "weighted", period: int = 1, bad: int = 0) -> SlotDelta:
    histogram = ExponentialHistogram.from_values(latencies)
    good = len(latencies) - bad
    return SlotDelta(at, route, period, len(latencies) + 1, good, 1, bad, 0, 0, histogram)


def report(*deltas: SlotDelta, variant: str = "v1-0-0", endpoint: str = ENDPOINT) -> None:
    slots_add([SlotBatch(f"source-{variant}", next(_seq), endpoint, variant, deltas)])


def settle() -> None:
    """Roll up until nothing is due."""
    RollUpMark.objects.update(due_at=datetime.fromtimestamp(0, UTC))
    rollups_due(seconds=60)


def row_of(row: Any) -> tuple[Any, ...]:
    return (
        row.slot_at, row.variant, row.route, row.period, row.total, row.good, row.client_4xx, row.model_error,
        row.timeout, row.other_5xx, row.zero, bytes(row.indexes), bytes(row.counts), row.latency_ns,
        row.latency_min, row.latency_max,
    )  # fmt: skip


def everything(level: int) -> list[tuple[Any, ...]]:
    return sorted(row_of(row) for row in RollUp.objects.filter(resolution=level))


@pytest.mark.django_db
def test_closed_windows_are_rolled_up_after_the_grace_and_open_ones_are_not(hands: Hands) -> None:
    report(*(delta(START + 10 * place, [0.1, 0.2]) for place in range(90)))
    hands.at = START + 900
    settle()
    mark = RollUpMark.objects.get()
    assert (mark.until_60, mark.until_600, mark.until_3600) == (START + 600, START + 600, START)
    assert [row.total for row in RollUp.objects.filter(resolution=60).order_by("slot_at")] == [18] * 10
    assert [row.total for row in RollUp.objects.filter(resolution=600)] == [180]
    assert Slot.objects.count() == 90


@pytest.mark.django_db
def test_a_late_report_reaches_every_level_once_and_equals_one_that_came_in_time(hands: Hands) -> None:
    parts = [delta(START + 10 * place, [0.05 * (place % 7 + 1)] * 3, bad=1) for place in range(0, 9000, 7)]
    late = [delta(START + 70, [3.0, 0.0]), delta(START + 70, [0.004]), delta(START + 7200, [9.0], route="assigned")]
    hands.at = START + 3 * DAY
    report(*parts)
    settle()
    report(*late)
    settle()
    found = {level: everything(level) for level in LEVELS}
    assert RollUp.objects.get(resolution=3600, slot_at=START, route="weighted").late == 2
    for model in (Slot, Source, RollUp, RollUpMark):
        model.objects.all().delete()
    report(*late, *reversed(parts))
    settle()
    assert {level: everything(level) for level in LEVELS} == found
    assert all(found.values())


@pytest.mark.django_db
def test_slots_go_after_48_hours_and_every_window_still_says_the_same(hands: Hands) -> None:
    hands.at = START + 6 * 3600
    report(*(delta(START + 10 * place, [0.01 * (place % 90 + 1)], period=1 + place // 700) for place in range(2100)))
    asked = [
        WindowRequest(ENDPOINT, "v1-0-0"),
        WindowRequest(ENDPOINT, "v1-0-0", first_period=2),
        WindowRequest(ENDPOINT, "v1-0-0", first_period=1, last_period=1),
        WindowRequest(ENDPOINT, "v1-0-0", since=START + 3600, until=START + 4 * 3600),
    ]
    before = windows(asked)
    assert before[0].total == 4200
    for days in (1, 3, 20, 100, 300):
        hands.at = START + days * DAY
        settle()
        assert (
            windows(asked[: 1 if days > 90 else 3 if days > 14 else 4])
            == before[: 1 if days > 90 else 3 if days > 14 else 4]
        )
        assert [tally.total for tally in tallies(asked[:1])] == [4200]
    assert not Slot.objects.exists()
    assert set(RollUp.objects.values_list("resolution", flat=True)) == {3600, 86_400}
    hands.at = START + 500 * DAY
    settle()
    assert not RollUp.objects.exists()
    assert not RollUpMark.objects.exists()


@pytest.mark.django_db
def test_nothing_is_deleted_while_a_roll_up_says_something_else(hands: Hands) -> None:
    report(*(delta(START + 10 * place, [0.1]) for place in range(60)))
    hands.at = START + 3600
    settle()
    RollUp.objects.filter(resolution=60, slot_at=START + 120).update(model_error=1)
    hands.at = START + 3 * DAY
    settle()
    mark = RollUpMark.objects.get()
    assert mark.fault.startswith(f"v1-0-0, weighted, period 1, 60 s from {START + 120}: model_error is 0 and 1")
    assert Slot.objects.count() == 60
    assert windows([WindowRequest(ENDPOINT, "v1-0-0", since=START, until=START + 60)])[0].total == 12

    assert rollups_rebuild(actor=SYSTEM, endpoint=ENDPOINT, reason="the fault of tonight")
    event = Event.objects.get(verb="telemetry.rebuilt")
    assert (event.subject_label, event.detail["reason"]) == (ENDPOINT, "the fault of tonight")
    assert event.detail["fault"] == mark.fault
    assert event.detail["dropped"]["60s"] == 10
    settle()
    assert RollUpMark.objects.get().fault == ""
    assert not Slot.objects.exists()
    assert windows([WindowRequest(ENDPOINT, "v1-0-0")])[0].total == 120
    assert not rollups_rebuild(actor=SYSTEM, endpoint="nobody")
    assert Event.objects.filter(verb="telemetry.rebuilt").count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"latency_ns": 5}, "sum of latencies"),
        ({"latency_max": 9.0}, "minimum or maximum"),
        ({"counts": b"\x07\0\0\0"}, "histogram's total"),
        ({"counts": b"\x07"}, "do not fit together"),
    ],
)
def test_every_number_is_verified_before_slots_go(hands: Hands, change: dict[str, Any], word: str) -> None:
    report(delta(START, [0.1]))
    hands.at = START + 3600
    settle()
    RollUp.objects.filter(resolution=60).update(**change)
    hands.at = START + 3 * DAY
    settle()
    assert Slot.objects.exists()
    assert word.replace(" together", "") in RollUpMark.objects.get().fault


@pytest.mark.django_db
def test_slots_written_before_there_were_marks_are_found(hands: Hands) -> None:
    report(delta(START, [0.1]))
    report(delta(START, [0.1]), endpoint="another")
    RollUpMark.objects.all().delete()
    assert (rollups_discover(), rollups_discover()) == (2, 0)
    hands.at = START + 3600
    settle()
    assert RollUp.objects.filter(resolution=600).count() == 2


class Killed(Exception):
    """Stands for the process's end: the connection's transaction is lost."""


@pytest.mark.django_db(transaction=True)
def test_killed_before_any_statement_it_goes_on_where_it_was(hands: Hands) -> None:
    hands.at = START + 3 * DAY
    report(*(delta(START + 60 * place, [0.1 * (place % 5 + 1)]) for place in range(100)), delta(START + DAY, [0.3]))
    request = [WindowRequest(ENDPOINT, "v1-0-0")]
    whole = windows(request)
    statements = 0
    for stop in range(1, 10_000):
        left = stop

        def count(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                raise Killed
            return execute(sql, params, many, context)

        RollUpMark.objects.update(due_at=datetime.fromtimestamp(0, UTC))
        try:
            with connection.execute_wrapper(count):
                rollups_due(seconds=0.0)
        except Killed:
            statements += 1
        else:
            break
        if stop % 5 == 0:
            assert windows(request) == whole
    settle()
    assert statements > 20
    assert windows(request) == whole
    assert not Slot.objects.filter(slot_at__lt=START + DAY).exists()
    again = {level: everything(level) for level in LEVELS}
    for model in (Slot, Source, RollUp, RollUpMark):
        model._default_manager.all().delete()
    report(delta(START + DAY, [0.3]), *(delta(START + 60 * place, [0.1 * (place % 5 + 1)]) for place in range(100)))
    settle()
    assert {level: everything(level) for level in LEVELS} == again


@pytest.mark.django_db(transaction=True)
def test_reports_during_roll_ups_by_two_workers_are_counted_once(hands: Hands) -> None:
    hands.at = START + 2 * 3600
    report(*(delta(START + 10 * place, [0.1]) for place in range(360)))
    faults: list[BaseException] = []

    def work(what: Any) -> None:
        try:
            for turn in range(12):
                what(turn)
        except BaseException as error:  # noqa: BLE001  handed to the main thread
            faults.append(error)
        finally:
            connections.close_all()

    rolling = [threading.Thread(target=work, args=(lambda turn: settle(),)) for _ in range(2)]
    reporting = threading.Thread(target=work, args=(lambda turn: report(delta(START + 300 * turn, [0.2])),))
    for thread in (*rolling, reporting):
        thread.start()
    for thread in (*rolling, reporting):
        thread.join(120)
    assert not faults
    settle()
    assert not RollUpMark.objects.exclude(fault="").exists()
    totals = {level: sum(row[4] for row in everything(level)) for level in (60, 600, 3600)}
    assert totals == dict.fromkeys((60, 600, 3600), 2 * 372)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("10s=2h", "at least 6h"),
        ("1min=1h", "10s is kept longer"),
        ("10min=4000d", "10min is kept longer"),
        ("fortnight", "'fortnight'"),
        ("1min=14", "'1min=14'"),
        ("10s=6h,1min=6h,10min=6h,1h=24h", "1h must be kept"),
    ],
)
def test_a_retention_that_cannot_be_kept_is_refused_with_the_way_out(text: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        parse_retention(text)


def test_retention_keeps_its_defaults_and_cuts_at_whole_windows() -> None:
    kept = parse_retention("1min=30d")
    assert kept.seconds == {10: 2 * DAY, 60: 30 * DAY, 600: 90 * DAY, 3600: 400 * DAY, 86_400: 400 * DAY}
    assert kept.cut(10, START + 61) == START - 2 * DAY + 60
    assert kept.cut(600, START + 3700) == START - 90 * DAY + 3600


@pytest.mark.parametrize(
    ("seconds", "step"),
    [(600, 10), (2 * 3600, 10), (DAY, 60), (10 * DAY, 600), (62 * DAY, 3600), (400 * DAY, DAY), (9000 * DAY, 6 * DAY)],
)
def test_a_chart_of_any_range_reads_at_most_1500_windows(seconds: int, step: int) -> None:
    assert chart_step(START, START + seconds) == step
    assert seconds / step <= 1500
    assert level_of(step) == min(step, DAY)
