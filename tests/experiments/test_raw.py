"""Single rows go when their sums are verified, and only then; what is left says the same as before."""

from __future__ import annotations

import pytest

from apps.audit.models import Event
from apps.experiments.models import Cell, Exposure, Outcome
from apps.experiments.selectors import experiment_get, exposure_counts
from apps.experiments.services.lifecycle import experiment_stop
from apps.experiments.services.raw import RAW_DAYS, raw_drop_due, raw_verify
from apps.kernel.errors import Conflict
from tests.experiments.lab import Lab
from tests.fakes.targets import ALICE

SPEND = {"key": "spend", "kind": "mean", "event": "purchase"}
SECONDS = {"key": "p90", "kind": "quantile", "event": "purchase", "quantile": 0.9}
CONVERSION = {"key": "conversion", "kind": "proportion", "event": "purchase", "window_seconds": 3600}


def ended(lab: Lab) -> str:
    """An experiment of two countries, in three hours, that was stopped."""
    metrics = [CONVERSION, SPEND, SECONDS]
    experiment = lab.running(metrics=metrics, secondary=["spend", "p90"], dimensions=["country"])
    for hour in range(3):
        lab.clock.forward(3600)
        units = [f"user-{hour}-{index}" for index in range(120)]
        lab.expose(experiment, units, dimensions={"country": ["de" if i % 3 else "fr" for i in range(120)]})
        lab.happen(experiment, units[::4], values=[float(i % 7) for i in range(30)])
    lab.expose(experiment, ["both"], arms=["control"])
    lab.expose(experiment, ["both"], arms=["treatment"])
    lab.clock.forward(7200)
    experiment_stop(actor=ALICE, experiment_id=experiment.pk, reason="enough")
    lab.look(experiment)
    return experiment.pk


def test_rows_go_after_the_retention_and_the_sums_say_the_same(lab: Lab) -> None:
    pk = ended(lab)
    before = lab.look(experiment_get(pk))
    counts = exposure_counts(experiment_get(pk))
    assert raw_drop_due() == 0
    lab.clock.forward(RAW_DAYS * 86_400 - 60)
    assert raw_drop_due() == 0
    lab.clock.forward(2 * 3600)
    assert raw_drop_due() == 361 + 90
    assert not Exposure.objects.exists()
    assert not Outcome.objects.exists()
    experiment = experiment_get(pk)
    assert exposure_counts(experiment) == counts
    assert experiment.raw_counts["outcomes"] == 90
    after = lab.look(experiment)
    assert after.result["primary"]["difference"] == before.result["primary"]["difference"]
    assert after.result["health"]["contaminated"] == before.result["health"]["contaminated"]
    assert Event.objects.filter(verb="experiment.raw_dropped", subject_id=pk).count() == 1
    assert raw_drop_due() == 0


def test_what_comes_later_is_refused_and_says_why(lab: Lab) -> None:
    experiment = experiment_get(ended(lab))
    lab.happen(experiment, ["user-0-1"])  # late, and welcome
    lab.clock.forward(RAW_DAYS * 86_400 + 7200)
    assert raw_drop_due() == 361 + 91
    for late in (lambda: lab.happen(experiment, ["user-0-2"]), lambda: lab.expose(experiment, ["new"])):
        with pytest.raises(Conflict) as refused:
            late()
        assert refused.value.code == "raw_dropped"


@pytest.mark.parametrize("metric", ["conversion", "spend", "units", "p90"])
def test_sums_that_do_not_agree_keep_every_row_and_are_told_once(lab: Lab, metric: str) -> None:
    pk = ended(lab)
    cell = Cell.objects.filter(experiment_id=pk, metric=metric, n__gt=0).latest("id")
    cell.n += 1
    cell.save()
    lab.clock.forward(RAW_DAYS * 86_400 + 7200)
    rows = Exposure.objects.count(), Outcome.objects.count()
    assert raw_drop_due() == 0
    assert raw_drop_due() == 0
    assert (Exposure.objects.count(), Outcome.objects.count()) == rows
    assert metric in experiment_get(pk).raw_counts["differs"]
    assert Event.objects.filter(verb="experiment.sums_differ").count() == 1


def test_a_cell_that_nobody_stored_keeps_the_rows_too(lab: Lab) -> None:
    pk = ended(lab)
    Cell.objects.filter(experiment_id=pk, metric="spend").first().delete()  # type: ignore[union-attr]
    lab.clock.forward(RAW_DAYS * 86_400 + 7200)
    assert not raw_verify(experiment_get(pk))
    assert Exposure.objects.exists()


def test_a_running_experiment_keeps_its_rows_however_old(lab: Lab) -> None:
    experiment = lab.running()
    lab.clock.forward(60)
    lab.expose(experiment, ["a", "b"])
    lab.clock.forward(400 * 86_400)
    assert raw_drop_due() == 0
    assert Exposure.objects.count() == 2
