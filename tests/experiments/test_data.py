"""Exposures and outcomes: every item counts once, however often it is sent; what two arms saw counts for none."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from apps.experiments.domain.events import exposures_parse, outcomes_parse, unit_key
from apps.experiments.models import Cell, Exposure, Outcome
from apps.experiments.selectors import exposure_counts
from apps.experiments.services.cells import cells_refresh
from apps.experiments.services.exposures import exposures_add
from apps.experiments.services.lifecycle import experiment_extend
from apps.experiments.services.outcomes import outcomes_add
from apps.kernel.errors import InvalidInput
from tests.experiments.lab import Lab
from tests.fakes.targets import ALICE

USERS = [f"user-{index}" for index in range(200)]


def test_every_item_of_a_batch_is_accepted_a_duplicate_or_rejected(lab: Lab) -> None:
    experiment = lab.running()
    lab.clock.forward(60)
    future = (lab.clock() + timedelta(hours=1)).isoformat()
    body = {"exposures": [{"unit": "a"}, {"unit": "a"}, {"unit": "b"}, {"unit": ""}, {"unit": "c", "at": future},
                          {"unit": "d", "arm": "blue"}, {"unit": "e", "at": "2020-01-01T00:00:00Z"}, {}]}  # fmt: skip
    taken = exposures_add(actor=ALICE, experiment_id=experiment.pk, body=body)
    assert (taken.accepted, taken.duplicates) == (2, 1)
    assert [(one.index, one.field, one.code) for one in taken.rejected] == [
        (3, "unit", "invalid"),
        (4, "at", "in_the_future"),
        (5, "arm", "unknown_arm"),
        (6, "at", "outside"),
        (7, "unit", "invalid"),
    ]
    again = exposures_add(actor=ALICE, experiment_id=experiment.pk, body=body)
    assert (again.accepted, again.duplicates, len(again.rejected)) == (0, 3, 5)
    assert Exposure.objects.count() == 2


NONSENSE: list[tuple[dict[str, Any], str]] = [
    ({"covariate": 10**400}, "covariate"),  # JSON has such whole numbers, floats do not
    ({"at": "0001-01-01T00:00:00+23:59"}, "at"),  # no such day in UTC
    ({"dimensions": ["country"]}, "dimensions"),
    ({"dimensions": 5}, "dimensions"),
]


@pytest.mark.parametrize(("item", "field"), NONSENSE)
def test_nonsense_in_one_item_rejects_that_item_alone(item: dict[str, Any], field: str) -> None:
    rows = [{"unit": "a"}, {"unit": "b", **item}, {"unit": "c"}]
    moment = datetime(2026, 3, 1, tzinfo=UTC)
    taken, rejected = exposures_parse({"exposures": rows}, now=moment, dimensions=["country"])
    assert [one.unit for one in taken] == ["a", "c"]
    assert [(one.index, one.field) for one in rejected] == [(1, field)]


def test_a_value_of_400_digits_rejects_its_outcome_alone() -> None:
    body = {"ids": ["1", "2"], "units": ["a", "b"], "events": ["e", "e"], "values": [10**400, 10**15]}
    taken, rejected = outcomes_parse(body, now=datetime(2026, 3, 1, tzinfo=UTC), events=frozenset({"e"}))
    assert [one.value for one in taken] == [1e15]
    assert [(one.index, one.field, one.detail) for one in rejected] == [
        (0, "value", "value must be a finite number of at most 1e15.")
    ]


def test_columns_of_dimensions_beside_a_list_of_exposures_are_refused_by_name() -> None:
    body = {"exposures": [{"unit": "a"}, {"unit": "b"}], "dimensions": {"country": ["de"]}}
    with pytest.raises(InvalidInput) as refused:
        exposures_parse(body, now=datetime(2026, 3, 1, tzinfo=UTC), dimensions=["country"])
    assert refused.value.fields[0].pointer == "/dimensions"


def test_a_column_of_another_length_refuses_the_whole_batch_and_names_itself(lab: Lab) -> None:
    experiment = lab.running()
    with pytest.raises(InvalidInput) as refused:
        lab.expose(experiment, ["a", "b"], covariates=[1.0])
    assert refused.value.fields[0].pointer == "/covariates"
    assert not Exposure.objects.exists()


def test_a_unit_seen_in_the_other_arm_counts_for_neither_and_is_said_to(lab: Lab) -> None:
    experiment = lab.running()
    lab.clock.forward(60)
    (arm,) = lab.arms(experiment, ["a"])
    other = "treatment" if arm == "control" else "control"
    assert lab.expose(experiment, ["a"], arms=[arm]).accepted == 1
    cells_refresh(experiment)
    assert Cell.objects.filter(metric="units").get().n == 1
    wrong = lab.expose(experiment, ["a"], arms=[other])
    assert (wrong.accepted, wrong.duplicates, wrong.faulty) == (0, 0, 1)
    assert wrong.rejected[0].code == "two_arms"
    assert exposure_counts(experiment)["two_arms"] == 1
    cells_refresh(experiment)
    assert not Cell.objects.filter(metric="units").exists()
    assert lab.expose(experiment, ["a"], arms=[arm]).duplicates == 1  # it does not come back


def test_a_unit_that_another_version_answered_counts_for_neither(lab: Lab) -> None:
    experiment = lab.running()
    lab.clock.forward(60)
    (arm,) = lab.arms(experiment, ["a"])
    wrong = "v1-1-0" if arm == "control" else "v1-0-0"
    assert lab.expose(experiment, ["a"], variants=[wrong]).rejected[0].code == "misrouted"
    assert exposure_counts(experiment)["misrouted"] == 1


def test_an_earlier_exposure_that_is_reported_later_moves_the_unit_to_its_hour(lab: Lab) -> None:
    experiment = lab.running()
    early = lab.clock() + timedelta(minutes=1)
    lab.clock.forward(3 * 3600)
    lab.expose(experiment, ["a"])
    cells_refresh(experiment)
    first = Cell.objects.get(metric="units").hour
    taken = lab.expose(experiment, ["a"], at=[early.isoformat()])
    assert (taken.accepted, taken.duplicates, taken.rejected) == (0, 1, ())
    cells_refresh(experiment)
    assert Cell.objects.get(metric="units").hour == first - 3


def test_an_event_id_counts_once_and_an_outcome_may_come_before_its_exposure(lab: Lab) -> None:
    experiment = lab.running()
    lab.clock.forward(600)
    later = (lab.clock() + timedelta(seconds=30)).isoformat()
    body = {"ids": ["e1", "e1", "e2"], "units": ["a", "a", "b"], "events": ["purchase", "purchase", "refund"],
            "at": [later] * 3}  # fmt: skip
    taken = outcomes_add(actor=ALICE, experiment_id=experiment.pk, body=body)
    assert (taken.accepted, taken.duplicates, [one.code for one in taken.rejected]) == (1, 1, ["unknown_event"])
    lab.expose(experiment, ["a"])
    cells_refresh(experiment)
    cell = Cell.objects.get(metric="conversion")
    assert (cell.n, cell.sums, Outcome.objects.count()) == (1, [1.0], 1)


def test_what_happened_before_the_exposure_is_not_its_effect(lab: Lab) -> None:
    experiment = lab.running()
    lab.clock.forward(600)
    lab.happen(experiment, ["a"], at=[(lab.clock() - timedelta(seconds=60)).isoformat()])
    lab.expose(experiment, ["a"])
    cells_refresh(experiment)
    assert Cell.objects.get(metric="conversion").sums == [0.0]


def test_no_name_of_a_unit_stands_in_the_tables(lab: Lab) -> None:
    experiment = lab.running()
    lab.expose(experiment, ["alice@example.com"])
    row = Exposure.objects.get()
    assert isinstance(row.unit, UUID)
    assert row.unit == unit_key(experiment.pk, "alice@example.com") != unit_key("another", "alice@example.com")


def test_more_coverage_takes_in_new_units_and_moves_none(lab: Lab) -> None:
    experiment = lab.running(coverage_bp=3000)
    before = lab.arms(experiment, USERS)
    assert 30 < sum(arm is not None for arm in before) < 95
    lab.clock.forward(60)
    outside = USERS[before.index(None)]
    assert lab.expose(experiment, [outside]).rejected[0].code == "not_in_experiment"
    experiment = experiment_extend(actor=ALICE, experiment_id=experiment.pk, coverage_bp=10_000, reason="more units")
    after = lab.arms(experiment, USERS)
    assert None not in after
    assert all(new == old for old, new in zip(before, after, strict=True) if old is not None)
    lab.clock.forward(60)
    assert lab.expose(experiment, [outside]).accepted == 1
    assert Exposure.objects.get().period == 2


def test_the_sums_are_those_of_the_rows_whatever_the_order_of_arrival(lab: Lab) -> None:
    metrics = [
        {"key": "conversion", "kind": "proportion", "event": "purchase"},
        {"key": "spend", "kind": "mean", "event": "purchase", "cap_upper": 50.0, "has_covariate": True},
        {"key": "per_view", "kind": "ratio", "event": "purchase", "denominator": "view"},
    ]
    experiment = lab.running(metrics=metrics, dimensions=["country"])
    rng = np.random.default_rng(7)
    order = rng.permutation(len(USERS))
    before = {unit: float(x) for unit, x in zip(USERS, rng.normal(10, 3, len(USERS)), strict=True)}
    views = {unit: int(x) for unit, x in zip(USERS, rng.poisson(3, len(USERS)), strict=True)}
    spent = {unit: float(x) for unit, x in zip(USERS, rng.exponential(30, len(USERS)), strict=True) if x > 20}
    lab.clock.forward(60)
    for chunk in np.array_split(order, 7):
        some = [USERS[i] for i in chunk]
        lab.expose(
            experiment, some, covariates=[before[u] for u in some], dimensions={"country": [u[-1] for u in some]}
        )
        cells_refresh(experiment)
        viewers = [u for u in some for _ in range(views[u])]
        if viewers:
            lab.happen(experiment, viewers, "view")
        buyers = [u for u in some if u in spent]
        lab.happen(experiment, buyers, "purchase", values=[spent[u] for u in buyers])
    cells_refresh(experiment)
    arms = dict(zip(USERS, lab.arms(experiment, USERS), strict=True))
    for number, arm in enumerate(("control", "treatment")):
        mine = [unit for unit in USERS if arms[unit] == arm]
        capped = np.array([min(spent.get(u, 0.0), 50.0) for u in mine])
        covariate = np.array([before[u] for u in mine])
        cell = Cell.objects.get(metric="spend", arm=number, dimension="")
        assert cell.n == len(mine)
        assert np.allclose(cell.sums, [capped.sum(), covariate.sum()], rtol=1e-12)
        wanted = np.cov(np.stack([capped, covariate])) * (len(mine) - 1)
        assert np.allclose(np.array(cell.centred).reshape(2, 2), wanted, rtol=1e-10)
        ratio = Cell.objects.get(metric="per_view", arm=number, dimension="")
        assert np.allclose(ratio.sums, [sum(spent.get(u, 0.0) for u in mine), sum(views[u] for u in mine)])
        told = Counter(u[-1] for u in mine)
        for row in Cell.objects.filter(metric="units", arm=number).exclude(dimension=""):
            assert row.n == told[row.dimension.removeprefix("country=")]
