"""Slots are sums: additive, order-free, once per batch."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

import numpy as np
import pytest
from django.db import connection, connections

from apps.kernel.stats.histogram import ExponentialHistogram
from apps.telemetry.domain.batch import SlotBatch, parse_batch
from apps.telemetry.domain.measure import Measure, MeasureRequest
from apps.telemetry.domain.window import WindowRequest
from apps.telemetry.models import Slot, Source
from apps.telemetry.selectors import (
    measures,
    newest_arrival,
    series,
    split_counts,
    split_counts_many,
    tallies,
    windows,
)
from apps.telemetry.services.slots import slots_add

SLOT = int(time.time()) // 10 * 10


def wire(latencies: list[float], **over: Any) -> dict[str, Any]:
    """One slot in wire form holding these latencies, all good unless said otherwise."""
    histogram = ExponentialHistogram.from_values(latencies)
    counts = {"good": len(latencies), "client_4xx": 0, "model_error": 0, "timeout": 0, "other_5xx": 0}
    counts.update({name: over.pop(name) for name in list(over) if name in counts})
    return {
        "slot": SLOT,
        "route": "weighted",
        "period": 1,
        "total": sum(counts.values()),
        **counts,
        "latency": {
            "zero": histogram.zero,
            "indexes": histogram.indexes.tolist(),
            "counts": histogram.counts.tolist(),
            "sum": histogram.sum_seconds,
            "min": histogram.minimum,
            "max": histogram.maximum,
        },
        **over,
    }


def batch(seq: int, *slots: dict[str, Any], source: str = "s1", variant: str = "v1-0-0") -> SlotBatch:
    body = {"source": source, "seq": seq, "endpoint": "late-arrival", "variant": variant, "slots": list(slots)}
    return parse_batch(body, now=time.time())


@pytest.mark.django_db
def test_deltas_of_one_slot_add_up() -> None:
    slots_add([batch(1, wire([0.1, 0.2]))])
    slots_add([batch(2, wire([0.3], good=0, model_error=1))])
    (window,) = windows([WindowRequest("late-arrival", "v1-0-0")])
    assert (window.total, window.good, window.model_error, window.bad, window.judged) == (3, 2, 1, 1, 3)
    assert window.latency == ExponentialHistogram.from_values([0.1, 0.2, 0.3])
    assert Slot.objects.count() == 1


@pytest.mark.django_db
def test_a_repeated_batch_changes_nothing() -> None:
    first = slots_add([batch(7, wire([0.1]))])
    again = slots_add([batch(7, wire([0.1])), batch(6, wire([0.1]))])
    assert (first[0].is_duplicate, [result.is_duplicate for result in again]) == (False, [True, True])
    assert windows([WindowRequest("late-arrival", "v1-0-0")])[0].total == 1
    assert Source.objects.get().last_seq == 7


@pytest.mark.django_db
def test_the_order_of_arrival_does_not_change_a_bit() -> None:
    rng = np.random.default_rng(7)
    parts = [rng.lognormal(-3, 1, 50).tolist() for _ in range(12)]
    rows = []
    for order in (range(12), random.Random(3).sample(range(12), 12)):
        Slot.objects.all().delete()
        Source.objects.all().delete()
        slots_add([batch(1, wire(parts[place]), source=f"s{place}") for place in order])
        slot = Slot.objects.get()
        rows.append((bytes(slot.indexes), bytes(slot.counts), slot.latency_ns, slot.latency_min, slot.latency_max))
    assert rows[0] == rows[1]


@pytest.mark.django_db
def test_windows_keep_periods_routes_and_variants_apart() -> None:
    slots_add(
        [
            batch(1, wire([0.1] * 3), wire([0.1] * 2, period=2), wire([0.2] * 5, route="forced")),
            batch(1, wire([0.1] * 7, period=2), source="s2", variant="v1-1-0"),
        ]
    )
    found = windows(
        [
            WindowRequest("late-arrival", "v1-0-0"),
            WindowRequest("late-arrival", "v1-0-0", first_period=2),
            WindowRequest("late-arrival", "v1-1-0", last_period=1),
            WindowRequest("late-arrival", "v1-0-0", routes=("forced",)),
            WindowRequest("nobody", "v1-0-0"),
        ]
    )
    assert [window.total for window in found] == [5, 2, 0, 5, 0]
    assert split_counts("late-arrival", period=2) == {"v1-0-0": 2, "v1-1-0": 7}
    assert split_counts_many([("late-arrival", 1), ("late-arrival", 9)]) == {
        ("late-arrival", 1): {"v1-0-0": 3},
        ("late-arrival", 9): {},
    }


@pytest.mark.django_db
def test_any_number_of_windows_is_one_query(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(1):
        assert len(windows([WindowRequest("late-arrival", f"v{n}-0-0") for n in range(300)])) == 300


@pytest.mark.django_db
def test_a_series_leaves_gaps_where_nothing_came() -> None:
    slots_add([batch(1, wire([0.1]), wire([0.1] * 4, slot=SLOT - 40))])
    found = series("late-arrival", since=SLOT - 60, until=SLOT + 10, step_seconds=10)
    assert [(point.at, point.window.total) for point in found["v1-0-0"]] == [(SLOT - 40, 4), (SLOT, 1)]
    assert newest_arrival("late-arrival") == pytest.approx(time.time(), abs=60)
    assert newest_arrival("nobody") is None


@pytest.mark.parametrize(
    ("over", "code"),
    [
        ({"slot": SLOT + 1}, "bad_slot"),
        ({"slot": SLOT + 100_000}, "in_the_future"),
        ({"slot": SLOT - 200_000}, "too_old"),
        ({"route": "elsewhere"}, "bad_route"),
        ({"period": -1}, "bad_period"),
        ({"period": True}, "bad_period"),
        ({"timeout": -1}, "bad_count"),
        ({"total": 9}, "counts_do_not_sum"),
        ({"timeout": 1}, "latency_count"),
        ({"latency": {"indexes": [3, 2], "counts": [1, 1]}}, "bad_latency"),
        ({"latency": {"indexes": [1], "counts": [1], "sum": float("nan")}}, "bad_latency"),
        ({"latency": None}, "bad_latency"),
    ],
)
def test_a_bad_slot_is_rejected_with_its_index_and_the_rest_is_taken(over: dict[str, Any], code: str) -> None:
    parsed = batch(1, wire([0.1]), {**wire([0.1, 0.2]), **over} if "timeout" not in over else wire([0.1], **over))
    assert [(item.index, item.code) for item in parsed.rejected] == [(1, code)]
    assert len(parsed.slots) == 1


@pytest.mark.django_db(transaction=True)
def test_racing_writers_of_one_slot_lose_nothing() -> None:
    faults: list[BaseException] = []

    def report(source: str) -> None:
        try:
            for seq in range(1, 16):
                slots_add([batch(seq, wire([0.1, 0.2]), source=source)])
        except BaseException as error:  # noqa: BLE001  handed to the main thread
            faults.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=report, args=(f"s{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not faults
    assert windows([WindowRequest("late-arrival", "v1-0-0")])[0].total == 4 * 15 * 2
    assert connection.vendor == "postgresql"


@pytest.mark.django_db
@pytest.mark.parametrize("limit", [0.0, 1e-9, 0.05, 0.1, 0.3, 0.5, 1e12])
def test_measures_agree_with_the_merged_histograms_of_the_same_windows(limit: float) -> None:
    draw = np.random.default_rng(3)
    for seq, (period, slot, variant) in enumerate(
        (period, SLOT - 10 * place, variant)
        for period in (1, 2, 3)
        for place in range(4)
        for variant in ("v1-0-0", "v1-1-0")
    ):
        spread = [0.0, *draw.lognormal(-2, 1, int(draw.integers(1, 40)))]
        wired = wire(spread, slot=slot, period=period, good=len(spread) - 1, model_error=1)
        slots_add([batch(seq + 1, wired, variant=variant)])
    asked = [
        MeasureRequest("late-arrival", "v1-1-0", 2, 3, SLOT - 10, (limit, 0.2)),
        MeasureRequest("late-arrival", "v9-9-9", 1, 1, 0, (limit,)),
        MeasureRequest("late-arrival", "v1-0-0", 1, 1),
    ]
    found = measures(asked)
    for wanted, (whole, recent) in zip(asked, found, strict=True):
        same = (wanted.endpoint, wanted.variant, wanted.routes)
        windowed = windows(
            [
                WindowRequest(*same, first_period=wanted.first_period),
                WindowRequest(*same, wanted.recent_period, wanted.recent_period, wanted.recent_since),
            ]
        )
        for measured, window in zip((whole, recent), windowed, strict=True):
            counts = (measured.total, measured.bad, measured.judged, measured.timed)
            assert counts == (window.total, window.bad, window.judged, window.latency.total)
            for each in wanted.limits if window.total else ():
                assert measured.over[each] == window.latency.count_over(each)
        assert whole.newest_at == windowed[0].newest_at
    assert found[1] == (Measure(over=found[1][0].over), Measure(over=found[1][1].over))


@pytest.mark.django_db
def test_tallies_agree_with_windows_and_a_damaged_slot_is_named() -> None:
    slots_add([batch(1, wire([0.1, 0.2], good=1, client_4xx=1), wire([0.3], period=2))])
    asked = [WindowRequest("late-arrival", "v1-0-0"), WindowRequest("late-arrival", "v1-0-0", first_period=2)]
    asked.append(WindowRequest("late-arrival", "v1-0-0", ("probe",)))
    for tally, window in zip(tallies(asked), windows(asked), strict=True):
        assert (tally.total, tally.judged, tally.newest_at) == (window.total, window.judged, window.newest_at)
    Slot.objects.filter(period=2).update(counts=b"\x00")
    with pytest.raises(ValueError, match="do not fit"):
        measures([MeasureRequest("late-arrival", "v1-0-0", 1, 1)])
