"""Minutes of good and bad requests, as objectives read them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from apps.telemetry.domain.batch import ROUTES, SLOT_ROUTES
from apps.telemetry.domain.measure import Measure, MeasureRequest, Tally
from apps.telemetry.domain.sums import SumsRequest, counted_over
from apps.telemetry.domain.window import UNSERVED, TotalRequest, Window, WindowRequest
from apps.telemetry.selectors import (
    measures,
    minute_sums,
    newest_arrivals,
    split_counts_many,
    tallies,
    totals,
    windows,
)
from apps.telemetry.services.slots import slots_add
from tests.telemetry.test_slots import SLOT, batch, wire

pytestmark = pytest.mark.django_db
MINUTE = SLOT // 60 * 60
ENDPOINT = "late-arrival"


def asked(kind: Any, limit: float | None = None, variant: str | None = "v1-0-0", **over: Any) -> SumsRequest:
    return SumsRequest(**{"endpoint": ENDPOINT, "since": MINUTE - 600, "until": MINUTE + 60, **over},
                       kind=kind, limit_seconds=limit, variant=variant)  # fmt: skip


def columns(request: SumsRequest) -> list[tuple[int, int, int]]:
    (found,) = minute_sums([request])
    return list(zip(*(column.tolist() for column in (found.minutes, found.total, found.bad)), strict=True))


def test_each_kind_counts_its_own_causes_and_leaves_the_callers_mistakes_out() -> None:
    slots_add([batch(1, wire([0.1] * 10, good=1, client_4xx=5, model_error=2, timeout=3, other_5xx=4, slot=MINUTE))])
    assert columns(asked("availability")) == [(MINUTE, 10, 7)]
    assert columns(asked("errors")) == [(MINUTE, 10, 9)]


def test_slots_of_a_minute_and_callers_routes_add_up_and_others_stay_out() -> None:
    slots = [wire([0.1], good=0, timeout=1, slot=MINUTE - 60 + 10 * place) for place in range(6)]
    slots += [wire([0.1] * 7, slot=MINUTE - 60, route="assigned"), wire([0.1], slot=MINUTE - 120, period=9)]
    slots += [wire([0.1] * 50, slot=MINUTE - 60, route=route) for route in ("forced", "mirrored", "probe")]
    slots_add([batch(1, *slots), batch(1, wire([0.2], slot=MINUTE - 60), source="s2", variant="v2-0-0")])
    assert columns(asked("availability")) == [(MINUTE - 120, 1, 0), (MINUTE - 60, 13, 6)]
    assert columns(asked("availability", variant=None)) == [(MINUTE - 120, 1, 0), (MINUTE - 60, 14, 6)]
    assert columns(asked("availability", since=MINUTE, until=MINUTE + 60)) == []
    assert columns(asked("availability", until=MINUTE - 60)) == [(MINUTE - 120, 1, 0)]


def test_requests_that_no_process_answered_are_bad_for_availability_and_errors_and_have_no_latency() -> None:
    good = wire([0.1] * 10, slot=MINUTE)
    refused = wire([3.0] * 7, good=0, other_5xx=5, timeout=2, slot=MINUTE, route=UNSERVED)
    slots_add([batch(1, good), batch(1, refused, source="gateway")])
    assert columns(asked("availability")) == [(MINUTE, 17, 7)]
    assert columns(asked("errors", variant=None)) == [(MINUTE, 17, 7)]
    assert columns(asked("slow", 0.5)) == [(MINUTE, 10, 0)]


def test_no_gate_split_or_percentile_reads_them_and_they_are_no_sign_of_life() -> None:
    refused = wire([3.0] * 7, good=0, other_5xx=7, route=UNSERVED)
    slots_add([batch(1, refused, source="gateway")])
    assert newest_arrivals([ENDPOINT]) == {}
    assert windows([WindowRequest(ENDPOINT, "v1-0-0")]) == [Window()]
    assert measures([MeasureRequest(ENDPOINT, "v1-0-0", 0, 0)]) == [(Measure(), Measure())]
    assert tallies([WindowRequest(ENDPOINT, "v1-0-0", ("weighted", "assigned"))]) == [Tally()]
    assert split_counts_many([(ENDPOINT, 1)]) == {(ENDPOINT, 1): {}}
    assert totals([TotalRequest(ENDPOINT)]) == [0]
    slots_add([batch(1, wire([0.1], slot=SLOT - 7200))])
    seen = newest_arrivals([ENDPOINT])[ENDPOINT]
    slots_add([batch(2, refused, source="gateway")])
    assert newest_arrivals([ENDPOINT]) == {ENDPOINT: seen}
    assert windows([WindowRequest(ENDPOINT, "v1-0-0", (UNSERVED,))])[0].bad == 14


def test_what_no_process_answered_cannot_be_good_and_comes_through_the_door_of_slots_alone() -> None:
    (rejection,) = batch(1, wire([0.1], route=UNSERVED)).rejected
    assert (rejection.code, rejection.detail) == ("bad_count", "what no process answered is other_5xx or timeout")
    assert UNSERVED in SLOT_ROUTES - ROUTES


@pytest.mark.parametrize("limit", [0.25, 0.3, 0.5, 1.0, 0.0123])
def test_slow_requests_are_those_over_the_lower_bound_of_the_limits_bucket(limit: float) -> None:
    latencies = np.random.default_rng(5).lognormal(np.log(limit), 0.05, 4000)
    slots_add([batch(1, wire(latencies.tolist(), slot=MINUTE))])
    from_there = counted_over(limit)
    assert limit / 1.0109 < from_there <= limit
    assert (from_there == limit) == (limit in (0.25, 0.5, 1.0))
    assert columns(asked("slow", limit)) == [(MINUTE, 4000, int((latencies > from_there).sum()))]


def test_many_requests_of_all_kinds_are_one_query_and_keep_their_order(django_assert_num_queries: Any) -> None:
    slots_add([batch(1, wire([0.1, 0.9], good=1, model_error=1, slot=MINUTE))])
    mixed = [asked("errors"), asked("slow", 0.5), asked("errors", endpoint="nobody"), asked("slow", 0.05)] * 50
    with django_assert_num_queries(1):
        found = minute_sums(mixed)
    assert [sums.bad.tolist() for sums in found] == [[1], [1], [], [2]] * 50
    assert minute_sums([]) == []


@pytest.mark.parametrize(
    ("over", "field"),
    [
        ({"kind": "fast"}, "kind"),
        ({"kind": "slow"}, "limit_seconds"),
        ({"kind": "errors", "limit": 1.0}, "limit_seconds"),
        ({"kind": "slow", "limit": float("nan")}, "limit_seconds"),
        ({"kind": "errors", "since": 61}, "since"),
        ({"kind": "errors", "until": 61}, "until"),
    ],
)
def test_an_impossible_request_is_refused_by_name(over: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}"):
        asked(**over)
