"""The pages of experiments: the form with its numbers, the draft, the plan, and the page that says what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client

from apps.experiments.models import Experiment
from apps.experiments.selectors import design_of, experiment_get
from apps.experiments.web.typed import DEFAULTS
from tests.cast import make_user
from tests.experiments.lab import Lab


@pytest.fixture(autouse=True, scope="module")
def _static_folder() -> None:
    Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)


@pytest.fixture
def alice(lab: Lab) -> Client:
    client = Client()
    client.force_login(make_user("alice"))
    return client


def typed(lab: Lab, **changes: str) -> dict[str, str]:
    """What a person types for purchases at 3 % that should rise by a fifth."""
    return {
        **DEFAULTS, "name": "does 1.1.0 sell more?", "endpoint": lab.site.endpoint.name, "version": "1.1.0",
        "hypothesis": "Fewer wrong answers, so more purchases.", "event": "purchase", "baseline": "3", "effect": "20",
        "units_per_day": "2,000", **changes,
    }  # fmt: skip


def test_the_numbers_follow_the_form_and_are_those_of_r(lab: Lab, alice: Client) -> None:
    page = alice.post("/experiments/new/size/", typed(lab, looks="1"))
    text = page.content.decode()
    assert page.status_code == 200
    assert "27,828" in text
    assert "13,914 control" in text
    assert "power.prop.test(p1 = 0.03, p2 = 0.036" in text
    assert Experiment.objects.count() == 0


def test_what_is_missing_is_said_beside_the_form(lab: Lab, alice: Client) -> None:
    text = alice.post("/experiments/new/size/", typed(lab, baseline="0", effect="0")).content.decode()
    assert "effect_relative must not be 0" in text
    assert "baseline must lie strictly between 0 and 1" in text


def test_a_form_that_is_kept_and_planned_may_be_started(lab: Lab, alice: Client) -> None:
    answer = alice.post("/experiments/new/", typed(lab, do="plan"), follow=True)
    made = Experiment.objects.get()
    assert (answer.status_code, made.status) == (200, "planned")
    assert made.planned_total == 42_000  # all that come in the three weeks that the power needs
    assert "Start" in answer.content.decode()
    design = design_of(made)
    assert (design.primary_metric.event, design.baseline, design.effect_relative) == ("purchase", 0.03, 0.2)
    assert [rail.limit for rail in design.guardrails] == [0.01, 0.01]


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("version", "", "Choose the version"),
        ("hypothesis", "", "hypothesis must say"),
        ("share", "0", "without weight"),
        ("power", "100", "power must lie strictly"),
        ("baseline", "three", "is no number"),
        ("others", "something odd", "is none of"),
        ("event", "", "name the outcome event"),
        ("measure", "slow", "the unit is a user"),
    ],
)
def test_a_fault_stands_at_its_field_and_nothing_typed_is_lost(
    lab: Lab, alice: Client, field: str, value: str, said: str
) -> None:
    answer = alice.post("/experiments/new/", typed(lab, **{field: value, "name": "typed and kept"}))
    text = answer.content.decode()
    assert answer.status_code == 422
    assert said in text
    assert "typed and kept" in text
    assert Experiment.objects.count() == 0


def test_a_stored_design_comes_back_as_it_was_typed(lab: Lab, alice: Client) -> None:
    wanted = typed(
        lab, measure="ratio", event="click", denominator="view", baseline="0.2", spread="0.4", effect="0.01",
        effect_kind="absolute", window_hours="48", direction="lower", others="mean of revenue\np95 of latency",
        dimensions="country, device", share="30", coverage="80", slow_ms="250",
    )  # fmt: skip
    alice.post("/experiments/new/", wanted)
    before = design_of(Experiment.objects.get())
    form: Any = alice.get(f"/experiments/{Experiment.objects.get().pk}/design/").context["typed"]
    alice.post(f"/experiments/{Experiment.objects.get().pk}/design/", {**form, "do": "keep"})
    assert design_of(Experiment.objects.get()) == before


def test_the_page_of_a_running_one_says_what_to_do_in_numbers(lab: Lab, alice: Client) -> None:
    experiment = lab.running(minimum_days=1)
    lab.clock.forward(3600)
    lab.sell(experiment, 2400, {"control": 0.2, "treatment": 0.28})
    lab.clock.forward(2 * 86_400)
    lab.look(experiment)
    page = alice.get(f"/experiments/{experiment.pk}/")
    text = page.content.decode()
    assert page.status_code == 200
    assert "Ship it" in text
    assert "2,400" in text
    assert " pp" in text
    listed = alice.get("/experiments/").content.decode()
    assert "Ship it" in listed


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ({"coverage": "nan"}, "&#x27;nan&#x27; is no number."),
        ({"coverage": "1e400"}, "&#x27;1e400&#x27; is no number."),
        ({"minimum_days": "21.5"}, "&#x27;21.5&#x27; is no whole number."),
        ({"coverage": "1e300"}, "can only grow, up to 10,000"),
        ({}, "Say what grows"),
    ],
)
def test_what_cannot_be_an_extension_is_said_and_nothing_grows(
    lab: Lab, alice: Client, typed: dict[str, str], said: str
) -> None:
    experiment = lab.running(coverage_bp=5000)
    answer = alice.post(f"/experiments/{experiment.pk}/do/extend/", {**typed, "reason": "more"})
    assert answer.status_code == 422
    assert said in answer.content.decode()
    after = experiment_get(experiment.pk)
    assert (after.coverage_bp, after.minimum_days, after.periods.count()) == (5000, experiment.minimum_days, 1)


def test_a_decimal_comma_is_one(lab: Lab, alice: Client) -> None:
    experiment = lab.running(coverage_bp=5000)
    alice.post(f"/experiments/{experiment.pk}/do/extend/", {"coverage": "62,5", "reason": "more"})
    assert experiment_get(experiment.pk).coverage_bp == 6250


def test_deciding_against_the_numbers_needs_a_reason_and_leads_to_the_rollout(lab: Lab, alice: Client) -> None:
    experiment = lab.running(minimum_days=1)
    lab.clock.forward(3600)
    lab.sell(experiment, 2400, {"control": 0.2, "treatment": 0.28})
    lab.clock.forward(2 * 86_400)
    look = lab.look(experiment)
    address = f"/experiments/{experiment.pk}/do/decide/"
    refused = alice.post(address, {"kind": "roll_back", "readout_id": look.pk})
    assert refused.status_code == 422
    assert "say why you decide otherwise" in refused.content.decode()
    assert experiment_get(experiment.pk).status == "running"
    done = alice.post(address, {"kind": "ship", "readout_id": look.pk}, follow=True)
    assert experiment_get(experiment.pk).status == "decided"
    assert "Roll out 1.1.0" in done.content.decode()


def test_a_viewer_sees_everything_and_may_press_nothing(lab: Lab) -> None:
    experiment = lab.running(minimum_days=1)
    client = Client()
    client.force_login(make_user("bob"))
    assert client.get(f"/experiments/{experiment.pk}/").status_code == 200
    answer = client.post(f"/experiments/{experiment.pk}/do/stop/", {"reason": "no"})
    assert answer.status_code == 403
    assert experiment_get(experiment.pk).status == "running"
