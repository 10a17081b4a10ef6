"""Burn rates against cases computed by hand, minute by minute."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.kernel.errors import InvalidInput
from apps.slo.domain.burn import RuleTable, budget_of, burn_rate, judge, rules_of
from apps.slo.domain.objective import DEFAULTS, Kind, ObjectiveSpec, objective_parse
from apps.slo.domain.policy import FAST_SLOW, FOUR_TIERS, policy_parse
from apps.slo.domain.replay import replay
from apps.slo.domain.state import span
from tests.slo.traffic import DAY, PERIOD, availability, slowly, steady


def judged(spec: ObjectiveSpec, long: tuple[int, int], short: tuple[int, int], period: int) -> list[bool]:
    """Which rules fire with the same counts in every window."""
    table = RuleTable.of([spec])
    same = [np.full(len(table.rules), value, np.int64) for value in (*long, *short, period)]
    return [bool(one) for one in judge(table, *same).fires]


def episodes(spec: ObjectiveSpec, outage: range, per_minute: int = 1000) -> dict[str, list[Any]]:
    times, total, bad = steady(per_minute=per_minute)
    bad[outage.start : outage.stop] = per_minute
    found = replay(spec, 0, PERIOD * 60, times, total, bad)
    return {tier.name: list(tier.episodes) for tier in found.tiers}


def test_factors_follow_from_the_share_of_the_budget_for_any_period() -> None:
    assert [tier.factor(30) for tier in FOUR_TIERS.tiers] == [Fraction(144, 10), 6, 3, 1]
    assert [round(float(tier.factor(28)), 2) for tier in FOUR_TIERS.tiers] == [13.44, 5.6, 2.8, 0.93]
    # a week: two per cent of its budget in an hour is 3.36 times the pace, five per cent in six hours 1.4 times
    assert [float(tier.factor(7)) for tier in FOUR_TIERS.tiers] == pytest.approx([3.36, 1.4, 0.7, 7 / 30])
    assert [(tier.severity.value, float(tier.factor(30))) for tier in FAST_SLOW.tiers] == [
        ("page", 14.4),
        ("ticket", 6),
    ]


def test_exactly_at_the_factor_does_not_fire_and_one_more_does() -> None:
    spec = availability(995_000)
    # 14.4 times 0.5 % is 7.2 %: 72 of 1000, which a float makes 0.072/0.005 = 14.399999999999999 or more, as it likes
    assert judged(spec, (1000, 72), (1000, 72), 0) == [False, True, True, True]
    assert judged(spec, (1000, 73), (1000, 73), 0) == [True, True, True, True]
    spec = availability(999_000)
    assert judged(spec, (100_000, 1440), (100_000, 1440), 0)[0] is False
    assert judged(spec, (100_000, 1441), (100_000, 1441), 0)[0] is True


def test_the_long_window_alone_is_not_enough_and_neither_is_the_short_one() -> None:
    spec = availability(995_000)
    assert not any(judged(spec, (1000, 500), (1000, 0), 0))
    assert not any(judged(spec, (1000, 0), (1000, 500), 0))


def test_no_events_are_null_and_never_a_hundred_per_cent() -> None:
    assert burn_rate(0, 0, Fraction(1, 1000)) is None
    assert budget_of(availability(), 0, 0, None).remaining is None
    assert not any(judged(availability(), (0, 0), (0, 0), 0))


def test_two_nights_of_half_failing_trickle_hardly_touch_a_budget_that_is_weighted_by_events() -> None:
    """4 requests a minute at night, half of them failing; 1000 a minute by day, none failing. Over three days with two
    nights of eight hours: 2 x 480 x 2 bad of 2 x 480 x 4 + 3360 x 1000, which is 0.000571 and 0.114 of the budget of
    99.5 %. The mean of five-minute ratios would say 22.2."""
    night, day = 480, 960
    total = np.concatenate(
        [[1000] * day, [4] * night, [1000] * day, [4] * night, [1000] * (3 * DAY - 2 * (day + night))]
    )
    bad = np.where(total == 4, 2, 0)
    burn = burn_rate(int(total.sum()), int(bad.sum()), Fraction(5, 1000))
    assert burn == pytest.approx(0.114, abs=0.0005)
    ratios = (bad.reshape(-1, 5).sum(1) / total.reshape(-1, 5).sum(1)).mean() / 0.005
    assert ratios == pytest.approx(22.2, abs=0.05)
    # and at night, while it burns at 100 times the pace, nobody is woken for less than the budget's share
    history = (
        np.concatenate([np.full(PERIOD - 3 * DAY, 1000), total]),
        np.concatenate([np.zeros(PERIOD - 3 * DAY), bad]),
    )
    found = replay(
        availability(995_000), 0, PERIOD * 60, np.arange(PERIOD) * 60, *(x.astype(np.int64) for x in history)
    )
    assert [(tier.name, len(tier.episodes)) for tier in found.tiers if tier.episodes] == []
    assert next(tier for tier in found.tiers if tier.name == "page fast").minutes_gated > 800


@pytest.mark.parametrize(
    ("target", "minutes", "tiers"),
    [
        # factor x budget x long window: 4 min 19 s, 10.8 min, 21.6 min, 21.6 min at 99.5 %
        (995_000, 4, set()),
        (995_000, 5, {"page fast": 5}),
        (995_000, 30, {"page fast": 5, "page slow": 11, "ticket fast": 22, "ticket slow": 22}),
        # 52 s, 2.2 min, 4.3 min, 4.3 min at 99.9 %
        (999_000, 1, {"page fast": 1}),
        (999_000, 30, {"page fast": 1, "page slow": 3, "ticket fast": 5, "ticket slow": 5}),
    ],
)
def test_a_total_outage_is_detected_in_the_minute_that_the_table_says(target: int, minutes: int, tiers: Any) -> None:
    found = episodes(availability(target), range(PERIOD - 10 * DAY, PERIOD - 10 * DAY + minutes))
    delays = {name: (some[0].detected_at - some[0].began_at) // 60 for name, some in found.items() if some}
    assert delays == dict(tiers)


def test_after_recovery_the_fast_page_clears_in_four_minutes_and_the_slow_one_in_twenty_nine() -> None:
    found = episodes(availability(999_000), range(PERIOD - 10 * DAY, PERIOD - 10 * DAY + 30))
    after = {name: (some[0].reset_at - some[0].recovered_at) // 60 for name, some in found.items()}
    assert after == {"page fast": 4, "page slow": 29, "ticket fast": 119, "ticket slow": 359}


def test_a_stretch_without_requests_neither_fires_nor_clears() -> None:
    times, total, bad = steady()
    start = PERIOD - 5 * DAY
    bad[start : start + 10] = total[start : start + 10]
    total[start + 10 : start + 40] = 0  # it fell silent while the page was on
    found = replay(availability(995_000), 0, PERIOD * 60, times, total, bad)
    fast = found.tiers[0]
    assert [(e.detected_at - start * 60) // 60 for e in fast.episodes] == [5]
    reset = fast.episodes[0].reset_at
    assert reset is not None
    assert (reset - start * 60) // 60 == 40  # the first good minute says that it is over


def test_silence_longer_than_the_long_window_ends_it() -> None:
    times, total, bad = steady()
    start = PERIOD - 5 * DAY
    bad[start : start + 10] = total[start : start + 10]
    total[start + 10 :] = 0
    reset = replay(availability(995_000), 0, PERIOD * 60, times, total, bad).tiers[0].episodes[0].reset_at
    assert reset is not None
    assert (reset - start * 60) // 60 == 10 + 59


def test_a_handful_of_failures_wakes_nobody() -> None:
    spec = availability(999_000)
    assert not any(judged(spec, (20, 4), (20, 4), 0))
    assert judged(spec, (20, 5), (20, 5), 0)[0]
    assert not any(judged(spec, (20, 5), (20, 5), 20_000_000))  # 5 of a budget of 20,000 are not two per cent of it


def test_a_floor_of_requests_stands_in_for_history() -> None:
    spec = availability(999_000, replace(FOUR_TIERS, floor_requests=1_000_000))
    assert not any(judged(spec, (20, 19), (20, 19), 0))  # 2 % of 1000 allowed are 20
    assert judged(spec, (20, 20), (20, 20), 0)[0]


@pytest.mark.parametrize("period", [7, 28, 30])
def test_every_minute_agrees_with_the_formula_added_up_slowly(period: int) -> None:
    rng = np.random.default_rng(period)
    minutes = 4 * DAY
    total = rng.poisson(60, minutes).astype(np.int64) + 1
    share = np.where((np.arange(minutes) // 97) % 7 == 0, 0.05, 0.001)
    share[2 * DAY : 2 * DAY + 20] = 0.6
    bad = rng.binomial(total, share).astype(np.int64)
    spec = availability(995_000, period_days=period)
    found = replay(spec, 0, minutes * 60, np.arange(minutes) * 60, total, bad)
    for minute in [0, 4, 5, 59, 60, *range(2 * DAY - 2, 2 * DAY + 60, 3), *range(100, minutes, 331)]:
        at = minute * 60 + 60
        on = {
            t.name: any(e.detected_at <= at and (e.reset_at is None or e.reset_at >= at) for e in t.episodes)
            for t in found.tiers
        }
        assert on == slowly(spec, total, bad, minute), minute


@settings(max_examples=300)
@given(
    total=st.integers(0, 10**12), share=st.floats(0, 1), period=st.integers(0, 10**13), floor=st.integers(0, 10**12),
    target=st.integers(1, 999_999), days=st.integers(3, 90), bp=st.integers(1, 10_000),
)  # fmt: skip
def test_decisions_are_those_of_exact_fractions(
    total: int, share: float, period: int, floor: int, target: int, days: int, bp: int
) -> None:
    bad = min(total, int(total * share))
    policy = policy_parse({"tiers": [{"name": "a", "severity": "page", "long_seconds": 3600, "short_seconds": 300,
                                      "budget_bp": bp}], "floor_requests": floor})  # fmt: skip
    spec = availability(target, policy, days)
    allowed = 1 - Fraction(target, 1_000_000)
    burns = total > 0 and Fraction(bad, total) / allowed > Fraction(bp, 10_000) * days * 24
    spent = bad >= Fraction(bp, 10_000) * allowed * max(period, floor)
    assert judged(spec, (total, bad), (total, bad), period) == [burns and spent and bad >= 5]


def test_a_tier_that_can_never_fire_is_refused_with_its_numbers() -> None:
    with pytest.raises(InvalidInput) as error:
        objective_parse({"name": "a", "kind": "latency", "target_ppm": 500_000, "limit_ms": 200})
    codes = {(fault.pointer, fault.code) for fault in error.value.fields}
    assert codes == {("/policy/profile", "never_fires")}
    assert len(error.value.fields) == 3  # 14.4, 6 and 3 times; all requests failing is twice the budget's pace
    assert "14.4 times" in error.value.detail
    assert "2 times" in error.value.detail
    # at the bound itself it cannot fire either, since it would have to be more
    tier = {"name": "x", "severity": "page", "long_seconds": 3600, "short_seconds": 300, "budget_bp": 1000}
    with pytest.raises(InvalidInput) as error:  # 72 times
        objective_parse({"name": "a", "kind": "errors", "target_ppm": 986_111, "policy": {"tiers": [tier]}})
    assert error.value.fields[0].pointer == "/policy/tiers/0/budget_bp"
    objective_parse({"name": "a", "kind": "errors", "target_ppm": 986_112, "policy": {"tiers": [tier]}})


def test_every_default_objective_can_be_kept_as_it_is() -> None:
    for spec in DEFAULTS:
        if spec.kind is not Kind.PERCENTILE:
            assert objective_parse({
                "name": spec.name, "kind": spec.kind, "target_ppm": spec.target_ppm, "limit_ms": spec.limit_ms
            }) == spec  # fmt: skip


@pytest.mark.parametrize(
    ("slow", "fires"), [(50, False), (51, True), (4, False)], ids=["exactly half", "one more", "too few"]
)
def test_a_percentile_is_over_its_limit_when_more_than_its_share_of_requests_is(slow: int, fires: bool) -> None:
    spec = DEFAULTS[4]
    (rule,) = rules_of(spec)
    assert (rule.long_seconds, rule.short_seconds) == (300, 300)
    total = 100 if slow > 4 else 7
    assert judged(spec, (total, slow), (total, slow), 10**9) == [fires]


def test_time_until_the_budget_is_gone_is_what_is_left_over_the_pace() -> None:
    spec = availability(999_000)
    untouched = budget_of(spec, 1_000_000, 0, 14.4)
    assert untouched.remaining == 1.0
    assert untouched.exhausts_in == pytest.approx(50 * 3600)
    half = budget_of(spec, 1_000_000, 500, 6.0)
    assert half.remaining == pytest.approx(0.5)
    assert half.exhausts_in == pytest.approx(2.5 * 86_400)
    assert budget_of(spec, 1_000_000, 1500, 3.0).exhausts_in == 0.0
    assert budget_of(spec, 1_000_000, 1500, 3.0).remaining == pytest.approx(-0.5)
    assert budget_of(spec, 1_000_000, 10, 1.0).exhausts_in is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(45, "45 s"), (300, "5 min"), (3_600, "1 h"), (4_500, "75 min"), (22_200, "6 h 10 min"), (86_400, "1 d"),
     (108_000, "30 h"), (259_200, "3 d"), (180_000, "2 d 2 h"), (7_200, "2 h")],
)  # fmt: skip
def test_a_stretch_of_time_is_said_with_at_most_two_units(seconds: float, text: str) -> None:
    assert span(seconds) == text
