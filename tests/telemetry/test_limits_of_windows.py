"""How much of the past one question may read: at most 1,500 points, made of at most 15,000 windows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.kernel.errors import InvalidInput
from apps.telemetry.api.views import MAX_POINTS, MAX_WINDOWS, _range
from apps.telemetry.domain.levels import chart_step, level_of
from apps.telemetry.selectors import series
from tests.api.conftest import caller, django_db_setup  # noqa: F401  fixtures
from tests.api.world import World
from tests.telemetry.test_rollups import ENDPOINT, START, Hands, delta, hands, report, settle  # noqa: F401
from tests.web.conftest import world  # noqa: F401  the fixture

UNTIL = datetime(2026, 1, 5, 12, tzinfo=UTC)
WINDOWS = "endpoints/late-arrival/windows"


def asked(points: float, step: int) -> dict[str, Any]:
    return {"since": UNTIL - timedelta(seconds=points * step), "until": UNTIL, "step_seconds": step}


def test_1500_points_are_read_and_one_more_is_not() -> None:
    since, until, step = _range(asked(MAX_POINTS, 10))
    assert (until - since) // step == 1500
    with pytest.raises(InvalidInput) as refused:
        _range(asked(MAX_POINTS + 1, 10))
    assert (refused.value.fields[0].code, refused.value.fields[0].pointer) == ("too_many_points", "?step_seconds")


@pytest.mark.parametrize(("step", "level"), [(110, 10), (660, 60), (7_140, 60), (6_600, 600), (39_600, 3600)])
def test_steps_that_no_roll_up_fits_are_made_of_too_many_windows(step: int, level: int) -> None:
    assert level_of(step) == level
    most = MAX_WINDOWS * level // step
    assert _range(asked(most, step))[2] == step
    with pytest.raises(InvalidInput) as refused:
        _range(asked(most + 1, step))
    assert refused.value.fields[0].code == "too_many_windows"
    # the way out that the sentence names is one
    since, until = (int(asked(most + 1, step)[name].timestamp()) for name in ("since", "until"))
    named = int(refused.value.detail.rstrip(".").rpartition(" ")[2])
    assert named == chart_step(since, until)
    assert _range({**asked(most + 1, step), "step_seconds": named})[2] == named


@given(st.integers(1, 8640), st.integers(1, 400 * 86_400))
def test_whatever_is_accepted_reads_a_bounded_number_of_windows(tens: int, seconds: int) -> None:
    step = 10 * tens
    try:
        since, until, _ = _range(asked(seconds / step, step))
    except InvalidInput:
        return
    assert (until - since) / step <= MAX_POINTS + 1  # the first step may have begun before what was asked for
    assert (until - since) / level_of(step) <= MAX_WINDOWS + step / level_of(step)


@pytest.mark.django_db
def test_the_refusals_are_told_by_the_api(world: World, caller: Any) -> None:  # noqa: F811
    api = caller("bob")
    for step, since, code in (
        (10, UNTIL - timedelta(seconds=15_010), "too_many_points"),
        (110, UNTIL - timedelta(seconds=150_100), "too_many_windows"),
    ):
        query = f"since={since:%Y-%m-%dT%H:%M:%SZ}&until={UNTIL:%Y-%m-%dT%H:%M:%SZ}&step_seconds={step}"
        answer = api.call("get", f"{WINDOWS}?{query}")
        assert answer.status_code in (400, 422)
        (error,) = answer.json()["errors"]
        assert (error["code"], error["pointer"]) == (code, "?step_seconds")


@pytest.mark.django_db
def test_thirty_days_are_answered_in_at_most_1500_points_with_every_request_in_them(hands: Hands) -> None:  # noqa: F811
    report(*(delta(START + 3600 * place, [0.1]) for place in range(40)))
    hands.at = START + 40 * 3600 + 3600
    settle()
    since, until = START - 28 * 86_400, START + 2 * 86_400
    step = chart_step(since, until)
    (points,) = series(ENDPOINT, since=since, until=until, step_seconds=step).values()
    assert len(points) <= (until - since) // step <= 1500
    assert sum(point.window.total for point in points) == 40 * delta(START, [0.1]).total
