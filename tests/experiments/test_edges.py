"""Nobody, everybody, arms in which nothing varies: a readout says a number with its interval or why there is none."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from django.test import Client

from apps.experiments.domain.analysis import Inputs, PastLook, PeriodShare, Verdict, analyse
from apps.experiments.domain.check import design_parse
from apps.experiments.domain.sums import UNITS, CellRow
from apps.experiments.services.export import readout_bundle
from apps.experiments.web.said import loss_said, row_of
from apps.kernel.stats.moments import Moments
from tests.cast import make_user
from tests.experiments.conftest import HAS_R
from tests.experiments.lab import CONVERSION, Lab, design
from tests.experiments.test_export import reproduce
from tests.fakes.targets import ALICE

COMPLAINT = {"key": "complaint", "kind": "proportion", "event": "complaint", "higher_is_better": False}
SPEND = {"key": "spend", "kind": "mean", "event": "purchase"}
RATIO = {"key": "ratio", "kind": "ratio", "event": "purchase", "denominator": "view"}
NUMBERS = {"baseline": 20.0, "spread": 9.0, "effect_relative": 0.1}


def test_nobody_against_everybody_ships_with_words_and_is_given_again(lab: Lab) -> None:
    experiment = lab.running(minimum_days=1, planned_total=600)
    lab.clock.forward(60)
    lab.sell(experiment, 400, {"control": 0.0, "treatment": 1.0})
    lab.clock.forward(2 * 86_400)
    look = lab.look(experiment)
    assert look.kind == "ship", look.result["decision"]
    assert look.result["decision"]["reasons"][0].startswith("conversion: +100 points (between +")
    assert look.result["look"]["upper"] == 1.0
    row = row_of(look.result["primary"])
    assert (row.control, row.treatment, row.difference, row.lift) == ("0 %", "100 %", "+100 pp", "none from 0")
    assert (row.level, row.undefined) == ("ok", "")
    client = Client()
    client.force_login(make_user("alice"))
    for part in ("head", "result", "looks"):
        text = client.get(f"/experiments/{experiment.pk}/{part}/").content.decode()
        assert "nan" not in text.lower().replace("finance", "")
    assert "agrees" in reproduce(lab, look.pk)
    in_r(lab, look.pk)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_nobody_in_both_arms_and_everybody_in_both_arms_say_why_there_is_no_number(lab: Lab, share: float) -> None:
    experiment = lab.running(minimum_days=1, planned_total=600)
    lab.clock.forward(60)
    lab.sell(experiment, 700, {"control": share, "treatment": share})
    lab.clock.forward(2 * 86_400)
    look = lab.look(experiment)
    assert look.kind == "stop_inconclusive"
    row = row_of(look.result["primary"])
    assert (row.word, row.p_value, row.difference) == ("undefined", "–", "–")
    assert row.undefined.startswith("all values are (nearly) the same")
    assert any(row.undefined in reason for reason in look.result["decision"]["reasons"])
    assert "agrees" in reproduce(lab, look.pk)
    in_r(lab, look.pk)


def test_everybody_in_the_control_has_a_lift(lab: Lab) -> None:
    """Its interval was lost with the degrees of freedom of an arm that does not vary."""
    experiment = lab.running(minimum_days=1, planned_total=600)
    lab.clock.forward(60)
    lab.sell(experiment, 400, {"control": 1.0, "treatment": 0.5})
    look = lab.look(experiment)
    assert look.kind == "roll_back"
    lift = row_of(look.result["primary"]).lift
    assert re.fullmatch(r"-(49|50|51)[.\d]* % \(-[56]\d[.\d]* to -[34]\d?[.\d]*\)", lift), lift
    assert "agrees" in reproduce(lab, look.pk)
    in_r(lab, look.pk)


def test_a_control_that_spends_nothing_is_compared_and_given_again(lab: Lab) -> None:
    experiment = lab.running(metrics=[SPEND], primary="spend", minimum_days=1, planned_total=600, **NUMBERS)
    lab.clock.forward(60)
    units = [f"user-{index}" for index in range(400)]
    lab.expose(experiment, units)
    arms = np.array(lab.arms(experiment, units))
    mine = [unit for unit, arm in zip(units, arms, strict=True) if arm == "treatment"]
    values = np.random.default_rng(2).exponential(30, len(mine))
    lab.happen(experiment, mine, values=[float(x) for x in values])
    lab.clock.forward(2 * 86_400)
    look = lab.look(experiment)
    found = look.result["primary"]["difference"]
    assert found["df"] == pytest.approx(len(mine) - 1)
    assert look.kind == "ship"
    assert "agrees" in reproduce(lab, look.pk)
    in_r(lab, look.pk)


def in_r(lab: Lab, readout_id: str) -> None:
    if not HAS_R:  # the summary of the run says so
        return
    name, _ = readout_bundle(actor=ALICE, readout_id=readout_id)
    done = subprocess.run(
        ["Rscript", "--vanilla", str(lab.folder / name / "reproduce.R")],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def looked(kc: int, nc: int, kt: int, nt: int, **changes: Any) -> Verdict:
    """One look at a guardrail without an event in it, beside a primary metric that is clearly better."""
    body = design(metrics=[CONVERSION, COMPLAINT], guardrails=[{"metric": "complaint", "margin": 0.01}], **changes)
    rows = []
    for arm, (n, bought, angry) in enumerate([(nc, nc // 5, kc), (nt, nt // 3, kt)]):
        for key, k in (("conversion", bought), ("complaint", angry), (UNITS, None)):
            found = Moments.from_counts(k, n) if k is not None else None
            sums = [float(x) for x in found.sums] if found is not None else []
            centred = [float(x) for x in found.centred.ravel()] if found is not None else []
            rows.append(CellRow(1, arm, key, 1, "", n, sums, centred))
    return analyse(inputs(body, rows, total=nc + nt))


def inputs(body: dict[str, Any], rows: list[CellRow], *, periods: int = 1, total: int = 1000) -> Inputs:
    return Inputs(
        design_parse(body),
        tuple(PeriodShare(number, (5000, 5000)) for number in range(1, periods + 1)),
        tuple(rows), (PastLook(0.1),), as_of=20 * 86_400.0, started_at=0.0, planned_total=max(total, 1),
        tuned_total=max(total, 2), minimum_days=1,
    )  # fmt: skip


def test_a_guardrail_that_nothing_ever_touched_does_not_hold_up_the_decision() -> None:
    few, many = looked(0, 300, 0, 300), looked(0, 2000, 0, 2000)
    assert few.result["guardrails"][0]["verdict"] == "not_enough_data"
    assert "not enough data to tell it from the margin, 1 point" in few.result["guardrails"][0]["reason"]
    assert few.decision.kind == "stop_inconclusive"
    rail = many.result["guardrails"][0]
    assert (rail["verdict"], many.decision.kind) == ("safe", "ship")
    assert rail["reason"].startswith("0 % in both arms, +0 points (between -0.")
    assert -0.01 < rail["lower"] < 0.0 < rail["upper"] < 0.01


def test_a_guardrail_that_everything_touched_is_no_worse_either() -> None:
    assert looked(2000, 2000, 2000, 2000).result["guardrails"][0]["verdict"] == "safe"


def test_a_guardrail_of_nobody_against_everybody_is_harmed() -> None:
    verdict = looked(0, 300, 300, 300)
    assert verdict.result["guardrails"][0]["verdict"] == "harmed"
    assert verdict.result["guardrails"][0]["upper"] == 1.0
    assert verdict.decision.kind == "roll_back"


@pytest.mark.parametrize("mode", ["group_sequential", "always_valid"])
def test_a_tenth_of_the_units_without_an_event_yet_is_no_sure_harm(mode: str) -> None:
    """18 of 360 and 0 of 40 happen by chance in one such experiment of six; it used to end them at once."""
    body = design(
        weights_bp={"control": 9000, "treatment": 1000}, mode=mode, guardrails=[{"metric": "conversion", "margin": 0.0}]
    )
    rows = []
    for arm, (k, n) in enumerate([(18, 360), (0, 40)]):
        found = Moments.from_counts(k, n)
        sums, centred = [float(x) for x in found.sums], [float(x) for x in found.centred.ravel()]
        rows += [CellRow(1, arm, "conversion", 1, "", n, sums, centred), CellRow(1, arm, UNITS, 1, "", n, (), ())]
    made = replace(inputs(body, rows, total=400), periods=(PeriodShare(1, (9000, 1000)),))
    verdict = analyse(replace(made, looks=(), planned_total=800))
    assert verdict.result["guardrails"][0]["verdict"] == "not_enough_data", verdict.result["guardrails"]
    assert verdict.result["look"]["crossed"] == 0
    assert verdict.decision.kind == "keep_running"


KINDS = ("proportion", "mean", "ratio", "covariate", "adjusted proportion")


@pytest.mark.parametrize("mode", ["group_sequential", "always_valid"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_number_is_a_number_or_has_its_reason(kind: str, mode: str) -> None:
    """Arms that are empty, of one unit, all nothing, all one, all the same, in one to three periods."""
    rng = np.random.default_rng(17)
    seen = {"number": 0, "reason": 0}
    for _ in range(150):
        verdict = analyse(_extreme(rng, kind, mode))
        assert "NaN" not in json.dumps(verdict.result)
        primary = verdict.result["primary"]
        row_of(primary)
        loss_said(verdict.result)
        for name in ("difference", "lift"):
            found = primary[name]
            if "undefined" in found:
                assert found["text"]
                seen["reason"] += 1
                continue
            seen["number"] += 1
            missing = [key for key, value in found.items() if value is None and key != "df"]
            assert not missing, (missing, found, primary["arms"])
            assert found["lower"] <= found["estimate"] + 1e-12
            assert found["estimate"] <= found["upper"] + 1e-12
    assert min(seen.values()) > 20, seen


def _extreme(rng: np.random.Generator, kind: str, mode: str) -> Inputs:
    metric: dict[str, Any] = {
        "key": "primary", "event": "purchase", "denominator": "view" if kind == "ratio" else "",
        "kind": {"covariate": "mean", "adjusted proportion": "proportion"}.get(kind, kind),
        "has_covariate": kind in {"covariate", "adjusted proportion"},
    }  # fmt: skip
    numbers = {"baseline": 0.2} if "proportion" in kind else {"baseline": 20.0, "spread": 9.0}
    periods, rows, total = int(rng.integers(1, 4)), [], 0
    for period in range(1, periods + 1):
        for arm in (0, 1):
            n = int(rng.choice([0, 1, 2, 60, 200]))
            if not n:
                continue
            found = _values(rng, metric, n)
            sums, centred = [float(x) for x in found.sums], [float(x) for x in found.centred.ravel()]
            rows += [
                CellRow(period, arm, "primary", 1, "", n, sums, centred),
                CellRow(period, arm, UNITS, 1, "", n, (), ()),
            ]
            total += n
    body = design(metrics=[metric], primary="primary", effect_relative=0.1, mode=mode, **numbers)
    return inputs(body, rows, periods=periods, total=total)


def _values(rng: np.random.Generator, metric: dict[str, Any], n: int) -> Moments:
    style = int(rng.integers(0, 4))
    if metric["kind"] == "proportion":
        y = np.array([np.zeros(n), np.ones(n), np.ones(n), rng.random(n) < 0.4][style], float)
    else:
        y = np.array([np.zeros(n), np.full(n, 0.1), np.full(n, 7.0), rng.exponential(9.0, n)][style])
    if metric["kind"] == "ratio":
        return Moments.of(y, np.ones(n) if rng.random() < 0.5 else rng.poisson(2.0, n).astype(float))
    if metric["has_covariate"]:
        return Moments.of(y, np.full(n, 3.0) if rng.random() < 0.3 else rng.normal(3.0, 1.0, n))
    return Moments.of(y)
