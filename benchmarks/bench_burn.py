"""1,000 objectives x 4 tiers judged from stored minutes, and 30 days of a policy replayed; each beside a plain peer.

The peers are what one would write first: for the tick, a slice and a sum per objective and window; for the replay,
pandas' rolling sums. Both decide as ours do (checked in the run). CPU milliseconds, rounds in turn.
"""

from __future__ import annotations

import sys
import time
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
from harness import percentile, ratio, save, table

from apps.slo.domain.board import Board, Series
from apps.slo.domain.burn import RuleTable, judge, rules_of
from apps.slo.domain.objective import DEFAULTS, ObjectiveSpec
from apps.slo.domain.replay import replay

OBJECTIVES, ROUNDS = 1000, 15
MINUTES_3D, MINUTES_30D = 3 * 1440, 30 * 1440
TICK_MS, REPLAY_S = 10.0, 2.0
NOW = 1_780_000_020
SPEC = DEFAULTS[2]


def counts(random: np.random.Generator, minutes: int) -> tuple[Any, Any]:
    """Total and bad of each minute: a busy service with a fault of an hour."""
    total = random.poisson(600, minutes)
    share = np.full(minutes, 0.001)
    start = random.integers(0, minutes - 60)
    share[start : start + 60] = random.choice([0.01, 0.1, 0.5])
    return total.astype(np.int64), random.binomial(total, share).astype(np.int64)


def board_of(random: np.random.Generator) -> tuple[Board, list[tuple[Series, ObjectiveSpec]], list[tuple[Any, Any]]]:
    """A process that has read three days of every objective, and the same as dense arrays for the peer."""
    board, asked, raw = Board(30), [], []
    board.advance(NOW)
    until = NOW // 60 * 60 + 60
    seconds = until - 60 * MINUTES_3D + 60 * np.arange(MINUTES_3D)
    for place in range(OBJECTIVES):
        total, bad = counts(random, MINUTES_3D)
        series = Series(f"endpoint-{place}", None, "availability", None)
        board.put(series, int(seconds[0]), until, seconds, total, bad)
        asked.append((series, SPEC))
        raw.append((total, bad))
    return board, asked, raw


def decide(board: Board, asked: list[tuple[Series, ObjectiveSpec]], rules: RuleTable) -> Any:
    """What decides: every window of every objective, every tier, both gates."""
    found = board.counts([series for series, _ in asked], rules, [spec for _, spec in asked], NOW)
    return judge(rules, *found["long"], *found["short"], found["period"][0][rules.owner]).fires


def plain(raw: list[tuple[Any, Any]]) -> list[bool]:
    """A slice and a sum per window, exact fractions."""
    fires = []
    for total, bad in raw:
        period = int(total.sum())
        for rule in rules_of(SPEC):
            long, short = rule.long_seconds // 60, rule.short_seconds // 60
            lb, lt, sb, st = (
                int(bad[-long:].sum()),
                int(total[-long:].sum()),
                int(bad[-short:].sum()),
                int(total[-short:].sum()),
            )
            burns = lt and st and Fraction(lb, lt) > rule.limit and Fraction(sb, st) > rule.limit
            fires.append(bool(burns and lb >= rule.min_bad and lb >= rule.spent * period))
    return fires


def rolled(total: Any, bad: Any) -> dict[str, int]:
    """Minutes in which each tier is on, by pandas' rolling sums."""
    frame = pd.DataFrame({"total": total, "bad": bad})
    period = frame["total"].rolling(MINUTES_30D, min_periods=1).sum()
    found = {}
    for rule in rules_of(SPEC):
        long = frame.rolling(rule.long_seconds // 60, min_periods=1).sum()
        short = frame.rolling(rule.short_seconds // 60, min_periods=1).sum()
        limit, spent = float(rule.limit), float(rule.spent)
        on = (long["bad"] > limit * long["total"]) & (short["bad"] > limit * short["total"])
        found[rule.name] = int((on & (long["bad"] >= rule.min_bad) & (long["bad"] >= spent * period)).sum())
    return found


def timed(call: Any) -> tuple[float, Any]:
    """(CPU milliseconds, answer)."""
    began = time.process_time()
    answer = call()
    return 1000 * (time.process_time() - began), answer


def main() -> int:
    started = time.time()
    random = np.random.default_rng(20261121)
    board, asked, raw = board_of(random)
    rules = RuleTable.of([spec for _, spec in asked])
    mine, told, other = [], [], []
    for _ in range(ROUNDS):
        ms, fires = timed(lambda: decide(board, asked, rules))
        mine.append(ms)
        told.append(timed(lambda: board.judge(asked, NOW))[0])
        ms, peer = timed(lambda: plain(raw))
        other.append(ms)
        assert fires.tolist() == peer
    total, bad = counts(random, MINUTES_30D)
    seconds = 60 * np.arange(MINUTES_30D)
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ms, found = timed(lambda: replay(SPEC, 0, 60 * MINUTES_30D, seconds, total, bad))
        ours.append(ms)
        ms, peer_found = timed(lambda: rolled(total, bad))
        theirs.append(ms)
        assert {tier.name: tier.minutes_on for tier in found.tiers} == peer_found
    result: dict[str, Any] = {
        "tick": {"decide_ms": percentile(mine, 0.5), "with_states_ms": percentile(told, 0.5),
                 "plain_ms": percentile(other, 0.5), "ratio": ratio(mine, other)},
        "replay": {"ours_ms": percentile(ours, 0.5), "pandas_ms": percentile(theirs, 0.5),
                   "ratio": ratio(ours, theirs)},
        "fired": int(np.count_nonzero(fires)),
    }  # fmt: skip
    tick, again = result["tick"], result["replay"]
    table(
        "CPU milliseconds (median of rounds)",
        ("what", "ours", "peer"),
        [
            ("1,000 objectives x 4 tiers, decisions", tick["decide_ms"], tick["plain_ms"]),
            ("the same with what is shown of each", tick["with_states_ms"], "-"),
            ("30 days x 4 tiers replayed", again["ours_ms"], again["pandas_ms"]),
        ],
    )
    save("burn", result, started=started)
    is_met = tick["decide_ms"] < TICK_MS and again["ours_ms"] < 1000 * REPLAY_S
    print("met" if is_met else f"missed: {TICK_MS} ms per tick, {REPLAY_S} s per replay")
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main())
