"""Percentiles out of stored windows beside the exact nearest rank of every request."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from django.core.management import CommandError, call_command

from apps.kernel.clock import set_clock
from apps.telemetry.domain.window import WindowRequest
from apps.telemetry.models import RollUp, RollUpMark
from apps.telemetry.selectors import series, windows
from tests.telemetry.test_rollups import DAY, ENDPOINT, START, Hands, delta, report, settle

Values = npt.NDArray[np.float64]
ONE = WindowRequest(ENDPOINT, "v1-0-0")


@pytest.fixture
def hands() -> Iterator[Hands]:
    clock = Hands()
    with set_clock(clock):
        yield clock


def nearest_rank(values: Values, per_thousand: int) -> float:
    """The smallest value that at least this share of all values do not exceed."""
    return float(np.sort(values)[-(-per_thousand * values.size // 1000) - 1])


def spread(kind: str, rng: np.random.Generator) -> list[Values]:
    """Latencies of some slots."""
    if kind == "lognormal":
        return [rng.lognormal(-3, 1, 50) for _ in range(40)]
    if kind == "bimodal":
        return [np.where(rng.random(50) < 0.95, rng.normal(0.02, 0.001, 50), rng.normal(2, 0.1, 50)) for _ in range(40)]
    if kind == "heavy tail":
        return [np.minimum(0.01 * (1 + rng.pareto(0.7, 50)), 1e6) for _ in range(40)]
    if kind == "ties":
        return [rng.choice([0.1, 0.25, 0.25, 0.5, 1.0], 50) for _ in range(40)]
    # most slots busy and fast, a few with one slow request: an average of percentiles would say ten seconds
    return [np.full(1, 60.0) if place % 5 == 0 else rng.lognormal(-3, 0.3, 400) for place in range(40)]


@pytest.mark.django_db
@pytest.mark.parametrize("kind", ["lognormal", "bimodal", "heavy tail", "ties", "uneven"])
def test_percentiles_agree_with_nearest_rank_and_their_bounds_hold_it(hands: Hands, kind: str) -> None:
    slots = spread(kind, np.random.default_rng(3))
    every = np.concatenate(slots)
    hands.at = START + 2 * DAY
    report(*(delta(START + 1370 * place, values.tolist()) for place, values in enumerate(slots)))
    for _ in ("slots", "roll-ups"):
        (window,) = windows([ONE])
        for per_thousand in (500, 950, 990, 999):
            exact, found = nearest_rank(every, per_thousand), window.latency.quantile(per_thousand / 1000)
            assert found is not None
            assert found.midpoint == pytest.approx(exact, rel=0.0055)
            assert found.lower <= exact <= found.upper
        settle()
    assert RollUp.objects.filter(resolution=3600).exists()


@pytest.mark.django_db
def test_a_series_of_400_days_is_read_from_few_windows_and_counts_everything(hands: Hands) -> None:
    for day in range(0, 400, 4):
        hands.at = START + day * DAY + 3600
        report(*(delta(START + day * DAY + 600 * place, [0.1, 0.2]) for place in range(4)))
    hands.at = START + 400 * DAY - 60
    settle()
    found = series(ENDPOINT, since=START, until=START + 400 * DAY, step_seconds=DAY)["v1-0-0"]
    assert [point.at for point in found] == [START + day * DAY for day in range(0, 400, 4)]
    assert {point.window.total for point in found} == {12}
    # minutes of that time are gone: a chart of them shows what is left, where it begins
    fine = series(ENDPOINT, since=START, until=START + 100 * DAY, step_seconds=60)["v1-0-0"]
    assert sum(point.window.total for point in fine) == 25 * 12
    assert {point.at % 3600 for point in fine} == {0}


@pytest.mark.django_db
def test_the_command_rebuilds_what_it_knows_and_refuses_what_it_does_not(hands: Hands) -> None:
    report(delta(START, [0.1]))
    hands.at = START + 3600
    settle()
    RollUp.objects.filter(resolution=60).update(total=9)
    call_command("telemetry_rebuild", ENDPOINT)
    settle()
    assert RollUp.objects.get(resolution=60).total == 2
    assert RollUpMark.objects.get().fault == ""
    with pytest.raises(CommandError, match="'nobody'"):
        call_command("telemetry_rebuild", "nobody")
