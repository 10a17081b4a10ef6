"""The rollout in words and stops."""

from __future__ import annotations

import pytest

from apps.kernel.verdicts import Verdict
from apps.rollouts.domain.gates import percent
from apps.rollouts.domain.machine import TERMINAL, Phase
from apps.rollouts.domain.plan import Strategy
from apps.rollouts.domain.strategies import build_plan
from apps.rollouts.web.story import comparison, rail_of, sentence_of, stops_of, tiles_of
from controlplane.templatetags import words

CANARY = build_plan(Strategy.CANARY, profile="fast")


def test_a_weight_opens_a_stop_and_its_pause_and_gate_belong_to_it() -> None:
    stops = stops_of(CANARY)
    assert [stop.title for stop in stops] == ["5 %", "25 %", "50 %", "100 %"]
    assert stops[2].notes == ("bake 20 s", "gate: error rate, over 500 ms")


@pytest.mark.parametrize(
    ("phase", "step", "states"),
    [
        (Phase.PENDING, -1, "later later later later later later"),
        (Phase.PREPARING, -1, "now later later later later later"),
        (Phase.BAKING, 3, "done done now later later later"),
        (Phase.PROMOTING, 7, "done done done done done now"),
        (Phase.PROMOTED, 7, "done done done done done done"),
    ],
)
def test_the_rail_says_what_is_done_now_and_later(phase: Phase, step: int, states: str) -> None:
    assert " ".join(stop.state for stop in rail_of(CANARY, phase, step)) == states


@pytest.mark.parametrize("phase", Phase)
def test_every_phase_has_a_sentence_and_a_shape(phase: Phase) -> None:
    sentence = sentence_of(phase, "1.1.0", "1.0.0", 2500, 0)
    assert sentence.endswith(".")
    assert "1.1.0" in sentence or "Another" in sentence
    assert words.state_of(phase)[0] in words.SHAPES
    assert phase.value in words.STATES


@pytest.mark.parametrize("verdict", Verdict)
def test_every_verdict_has_a_word_of_its_own(verdict: Verdict) -> None:
    same = [other for other in Verdict if words.state_of(other) == words.state_of(verdict)]
    assert same == [verdict]


def test_a_gate_never_judged_is_pending_and_one_judged_shows_its_numbers() -> None:
    evidence = {"name": "error rate", "bad": 21, "total": 188, "lower": 0.051, "upper": 0.198, "limit": 0.01}
    findings = [{"verdict": "fail", "reason": "error rate 11.2 %", "evidence": evidence}]
    errors, slow = tiles_of(CANARY, Phase.BAKING, 1, findings)
    assert (errors.value, errors.limit, errors.samples, errors.level) == ("11.2 %", "limit 1 %", 188, "bad")
    assert (slow.verdict, slow.limit) == (Verdict.PENDING, "limit 1 % over 500 ms")


def test_a_bound_beyond_a_limit_never_reads_like_it() -> None:
    """ "Between 0 % and 1 %; limit 1 %; not enough requests yet to tell" contradicts itself."""
    assert [percent(share, 0.01) for share in (0.0104, 0.010004, 0.01, 0.0096, 0.2)] == [
        "1.04 %", "1.0004 %", "1 %", "0.96 %", "20 %"
    ]  # fmt: skip
    assert percent(0.99, 0.995) == "99 %"
    assert percent(0.9950001, 0.995) == "99.50001 %"


def test_the_comparison_says_how_much_slower() -> None:
    assert comparison(0.512, 0.211, "1.0.0") == "p95 512 ms, 301 ms slower than 1.0.0."
    assert comparison(0.2, None, "1.0.0") == "p95 200 ms."
    assert comparison(None, 0.2, "1.0.0") == ""


@pytest.mark.parametrize(
    ("share", "said"),
    [(0.25, "25 %"), (0.247, "24.7 %"), (0.0042, "0.42 %"), (0.00004, "0 %"), (None, "–"), (1.0, "100 %")],
)
def test_shares_keep_enough_digits_to_be_told_from_nothing(share: float | None, said: str) -> None:
    assert words.percent(share) == said


@pytest.mark.parametrize(("seconds", "said"), [(0.0004, "0.4 ms"), (0.512, "512 ms"), (12.4, "12.4 s"), (None, "–")])
def test_latency_is_said_in_the_unit_that_fits(seconds: float | None, said: str) -> None:
    assert words.latency(seconds) == said


@pytest.mark.parametrize("phase", sorted(TERMINAL))
def test_nothing_is_now_or_later_on_a_rail_that_has_ended(phase: Phase) -> None:
    plan = build_plan(Strategy.CANARY, profile="fast")
    said = {stop.said for stop in rail_of(plan, phase, 1)}
    assert said <= {"done", "ended here", "not reached"}


@pytest.mark.parametrize("phase", sorted(TERMINAL))
@pytest.mark.parametrize("step", [-1, 3])
def test_what_has_ended_says_nothing_in_the_present(phase: Phase, step: int) -> None:
    prepare = rail_of(CANARY, phase, step)[0]
    assert set(prepare.notes) <= {"was ready and warm", "was not ready by then"}
    assert (prepare.notes == ("was ready and warm",)) is (prepare.state == "done")
    sentence = sentence_of(phase, "1.1.0", "1.0.0", 0, 0)
    assert not {" serves ", " is ", " keeps ", " waits "} & {f" {word} " for word in sentence.rstrip(".").split()} - {
        " is " if phase is Phase.COMPLETED else ""
    }


def test_what_goes_on_says_what_it_waits_for() -> None:
    assert rail_of(CANARY, Phase.PREPARING, -1)[0].notes == ("until ready and warm",)
    assert rail_of(CANARY, Phase.BAKING, 1)[0].notes == ("ready and warm",)
