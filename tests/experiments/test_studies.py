"""A plan tried out before it runs: asked for once, computed in slices, and right about what it promises."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from apps.experiments.domain.check import design_parse
from apps.experiments.domain.simulate import SLICE, added, slice_of, summary, trial_of
from apps.experiments.domain.sizing import sizing
from apps.experiments.models import Study
from apps.experiments.selectors import STUCK_SECONDS
from apps.experiments.services.studies import ATTEMPTS, studies_ring, study_advance, study_request
from apps.kernel.errors import InvalidInput
from apps.kernel.models import OutboxEntry
from tests.cast import make_user
from tests.experiments.lab import Lab, design
from tests.experiments.test_pages import typed
from tests.fakes.targets import ALICE

MEAN = {
    "metrics": [{"key": "spend", "kind": "mean", "event": "purchase"}], "primary": "spend", "baseline": 20.0,
    "spread": 10.0, "effect_relative": 0.05,
}  # fmt: skip


@pytest.mark.parametrize(
    "changes", [{}, MEAN, {**MEAN, "effect_relative": -0.05, "weights_bp": {"control": 8000, "treatment": 2000}}]
)
def test_what_is_simulated_is_what_was_promised(changes: dict[str, Any]) -> None:
    parsed = design_parse(design(**changes))
    trial = trial_of(parsed, sizing(parsed).total, 4000)
    counts: dict[str, Any] = {}
    for number in range(4000 // SLICE):
        counts = added(counts, slice_of(trial, number))
    found = summary(trial, counts)
    assert found["runs"] == 4000
    assert found["power"]["lower"] - 0.015 < 0.8 < found["power"]["upper"] + 0.015
    assert found["false_alarm"]["value"] < 0.062
    assert found["mean_units"] < 0.82 * trial.total
    assert found["grid"]["power"][2][2] == pytest.approx(0.8, abs=0.02)


def test_a_slice_is_the_same_wherever_it_is_computed() -> None:
    trial = trial_of(design_parse(design()), 2000, 1000)
    assert slice_of(trial, 1) == slice_of(trial, 1)
    assert slice_of(trial, 1) != slice_of(trial, 0)


def test_the_same_plan_is_computed_once_in_slices_that_let_others_in_between(lab: Lab) -> None:
    ask = {"actor": ALICE, "endpoint_id": lab.site.endpoint.pk, "design": design(), "units_per_day": 500.0}
    study = study_request(**ask, runs=2000)
    before = OutboxEntry.objects.count()
    once = study_advance(study.pk, seconds=1e-9)
    assert (once.state, once.done_runs, once.progress) == ("computing", SLICE, 25)
    assert OutboxEntry.objects.count() == before + 1  # it rings for the rest
    done = study_advance(study.pk)
    assert (done.state, done.progress) == ("done", 100)
    assert 0.7 < done.result["power"]["value"] < 1.0
    assert study_request(**ask, runs=2000).pk == study.pk
    other = design(hypothesis="Quite another reason.")
    assert study_request(**{**ask, "design": other}, runs=2000).pk == study.pk  # words change no number
    assert study_request(**ask, runs=3000).pk != study.pk
    assert "hypothesis" not in study.inputs


def test_what_a_killed_worker_left_is_called_for_again_and_given_up_in_the_end(lab: Lab) -> None:
    study = study_request(actor=ALICE, endpoint_id=lab.site.endpoint.pk, design=design())
    assert studies_ring() == 0
    for _ in range(ATTEMPTS):
        lab.clock.forward(STUCK_SECONDS + 1)
        assert studies_ring() == 1
    lab.clock.forward(STUCK_SECONDS + 1)
    assert studies_ring() == 0
    study.refresh_from_db()
    assert (study.state, "attempts" in study.error) == ("failed", True)
    again = study_request(actor=ALICE, endpoint_id=lab.site.endpoint.pk, design=design())
    assert (again.pk, again.state, again.attempts) == (study.pk, "queued", 0)
    lab.clock.forward(timedelta(days=31).total_seconds())
    Study.objects.update(state="done", finished_at=study.requested_at)
    studies_ring()
    assert not Study.objects.exists()


def test_too_few_runs_say_nothing_and_are_refused_by_name(lab: Lab) -> None:
    with pytest.raises(InvalidInput, match="runs must lie between"):
        study_request(actor=ALICE, endpoint_id=lab.site.endpoint.pk, design=design(), runs=10)


def test_the_page_asks_waits_and_shows(lab: Lab) -> None:
    client = Client()
    client.force_login(make_user("alice"))
    text = client.post("/experiments/new/simulate/", typed(lab)).content.decode()
    study = Study.objects.get()
    assert f'hx-get="/experiments/studies/{study.pk}/"' in text
    assert "0 of 10,000 experiments" in text
    while study_advance(study.pk).state != "done":
        pass
    text = client.get(f"/experiments/studies/{study.pk}/").content.decode()
    assert "Tried 10,000 times" in text
    assert "hx-get" not in text
    missing = client.post("/experiments/new/simulate/", typed(lab, effect="0")).content.decode()
    assert "must not be 0" in missing
    assert Study.objects.count() == 1
