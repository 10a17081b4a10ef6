"""Whatever happens to the rows below, every read says what an adding machine with a perfect memory says."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.kernel.actor import SYSTEM
from apps.kernel.clock import set_clock
from apps.telemetry.domain.batch import SlotDelta
from apps.telemetry.domain.measure import MeasureRequest
from apps.telemetry.domain.store import Reads, Writes
from apps.telemetry.domain.sums import Kind, SumsRequest
from apps.telemetry.domain.window import MEASURED, TotalRequest, WindowRequest
from apps.telemetry.models import RollUp, RollUpMark, Slot, Source
from apps.telemetry.selectors import STORE, postgres
from apps.telemetry.services import put
from apps.telemetry.services.rollups import rollups_due, rollups_rebuild
from tests.fakes.windows import MemoryWindows
from tests.telemetry.test_rollups import ENDPOINT, START, Hands, delta, settle

HOUR, DAY = 3600, 86_400
KINDS: tuple[tuple[Kind, float | None], ...] = (("availability", None), ("errors", None), ("slow", 0.05))
VARIANTS = ("v1-0-0", "v1-1-0")
ROUTES = ("weighted", "assigned", "forced", "mirrored", "unserved")
GROUPS = {"measured": MEASURED, "weighted": ("weighted",), "counted": (*MEASURED, "unserved"), "none": ()}
KEEPS_SLOTS = 2 * DAY - HOUR  # newer than this, every second is still told apart


@pytest.fixture
def hands() -> Iterator[Hands]:
    clock = Hands()
    with set_clock(clock):
        yield clock


class Pair:
    """PostgreSQL and the adding machine, told the same."""

    def __init__(self) -> None:
        for model in (Slot, Source, RollUp, RollUpMark):
            model._default_manager.all().delete()
        self.memory = MemoryWindows()

    def put(self, *reports: tuple[str, SlotDelta], endpoint: str = ENDPOINT) -> None:
        deltas: dict[Any, list[SlotDelta]] = {}
        for variant, each in reports:
            deltas.setdefault((endpoint, each.slot_at, variant, each.route, each.period), []).append(each)
        for store in (put, self.memory):
            writes: Writes = store
            writes.windows_put(deltas)

    def check(self, ask: Any) -> None:
        """``ask`` a store; both must say the same. Arrival times are told by the clock, to the microsecond."""
        reads: Reads = self.memory
        assert ask(STORE) == ask(reads)


def requests_at(at: int, newest: int) -> list[WindowRequest]:
    """Spans whose ends lie on no boundary, within what is kept finely, and whole lives by period."""
    found = []
    for variant in VARIANTS:
        found += [
            WindowRequest(ENDPOINT, variant),
            WindowRequest(ENDPOINT, variant, ("weighted",), first_period=2),
            WindowRequest(ENDPOINT, variant, MEASURED, 1, 2),
            WindowRequest(ENDPOINT, variant, MEASURED, 2, None, at, newest),
            WindowRequest(ENDPOINT, variant, since=at, until=newest - 70),
            WindowRequest(ENDPOINT, variant, since=at + 7, until=at + 8 * HOUR + 3),
            WindowRequest(ENDPOINT, variant, since=at, until=at),
        ]
    return [*found, WindowRequest("nobody", VARIANTS[0])]


def ask_all(at: int, newest: int) -> Any:
    asked = requests_at(at, newest)
    judged = [
        MeasureRequest(ENDPOINT, variant, first, recent, since, (0.05, 0.5))
        for variant in VARIANTS
        for first, recent, since in ((1, 2, 0), (2, 2, at + 35), (1, 3, newest - 40), (3, 3, at + 5 * HOUR + 1))
    ]
    budgets = [
        SumsRequest(ENDPOINT, variant, kind, limit, at // 60 * 60 + 60, newest // 60 * 60)
        for variant in (*VARIANTS, None)
        for kind, limit in KINDS
    ]

    spans = [TotalRequest(ENDPOINT), TotalRequest(ENDPOINT, at + 7, at + 8 * HOUR + 3), TotalRequest("nobody"),
             TotalRequest(ENDPOINT, at, at), TotalRequest(ENDPOINT, None, newest - 70, ("forced",))]  # fmt: skip

    def ask(store: Reads) -> Any:
        sums = [[column.tolist() for column in (each.minutes, each.total, each.bad)]
                for each in store.minute_sums(budgets)]  # fmt: skip
        return {
            "windows": store.windows(asked),
            "tallies": store.tallies(asked),
            "totals": store.totals(spans),
            "measures": [one for pair in store.measures(judged) for one in pair if one.total],
            "splits": store.split_counts_many([(ENDPOINT, 1), (ENDPOINT, 2), ("nobody", 1)]),
            "minutes": store.series(ENDPOINT, since=at // 60 * 60 + 60, until=newest, step_seconds=60),
            "hours": store.series(ENDPOINT, since=START, until=newest, step_seconds=HOUR, routes=("weighted",)),
            "routes": store.series_of_routes(ENDPOINT, since=START, until=newest, step_seconds=HOUR, routes=GROUPS),
            "odd": store.series(ENDPOINT, since=at, until=newest, step_seconds=90, variants=VARIANTS[:1]),
            "sums": sums,
        }

    return ask


@pytest.mark.django_db
def test_the_postgres_modules_are_a_store() -> None:
    assert STORE is postgres
    assert callable(put.windows_put)


@pytest.mark.django_db
def test_a_full_day_rolled_up_reads_the_same_at_every_edge(hands: Hands) -> None:
    pair = Pair()
    rng = np.random.default_rng(11)
    reports = []
    for place in range(0, 30 * HOUR // 10, 11):
        made = delta(
            START + 10 * place,
            rng.lognormal(-3, 1, 3).tolist(),
            route=ROUTES[place % 7 % 5],
            period=1 + place // 5000,
            bad=1,
        )
        reports.append((VARIANTS[place % 2], made))
    pair.put(*reports)
    hands.at = START + 30 * HOUR
    for _ in range(2):
        for at in (START + 10, START + 3 * HOUR + 70, START + 23 * HOUR):
            pair.check(ask_all(at, START + 30 * HOUR))
        settle()
    assert {row.resolution for row in RollUp.objects.all()} == {60, 600, HOUR, DAY}


@st.composite
def stories(draw: st.DrawFn) -> list[tuple[str, int]]:
    """What happens: reports (now, late, very late), time, roll-ups of part or all, and a rebuild."""
    kinds = ("report", "report", "late", "old", "wait", "long", "settle", "step", "rebuild")
    return draw(st.lists(st.tuples(st.sampled_from(kinds), st.integers(0, 2**31)), min_size=4, max_size=25))


def live(pair: Pair, hands: Hands, story: list[tuple[str, int]]) -> None:
    for kind, seed in story:
        rng = np.random.default_rng(seed)
        now = int(hands.at) // 10 * 10
        reach = {"report": 120, "late": 3 * HOUR, "old": 47 * HOUR}.get(kind)
        if reach is not None:
            pair.put(*(_drawn(rng, now, reach) for _ in range(int(rng.integers(1, 30)))))
        elif kind in {"wait", "long"}:
            hands.at += float(rng.integers(1, 2 * HOUR if kind == "wait" else 2 * DAY))
        elif kind == "rebuild":
            rollups_rebuild(actor=SYSTEM, endpoint=ENDPOINT)
        elif kind == "step":
            RollUpMark.objects.update(due_at=datetime.fromtimestamp(0, UTC))
            rollups_due(seconds=0.0)
        else:
            settle()


def _drawn(rng: np.random.Generator, now: int, reach: int) -> tuple[str, SlotDelta]:
    at = now - int(rng.integers(0, reach)) // 10 * 10
    latencies = rng.lognormal(-3, 1, int(rng.integers(1, 9))).tolist()
    made = delta(at, latencies, route=str(rng.choice(ROUTES)), period=int(rng.integers(1, 4)), bad=len(latencies) // 4)
    return str(rng.choice(VARIANTS)), made


@pytest.mark.django_db
@settings(max_examples=15)
@given(story=stories())
def test_any_story_reads_the_same_as_an_adding_machine(story: list[tuple[str, int]]) -> None:
    hands = Hands()
    with set_clock(hands):
        pair = Pair()
        pair.put(("v1-0-0", delta(START, [0.1])))
        live(pair, hands, story)
        newest = int(hands.at) // 10 * 10 + 10
        at = max(START - 2 * DAY, newest - KEEPS_SLOTS) + 10
        pair.check(ask_all(at, newest))
        settle()
        pair.check(ask_all(at, newest))
