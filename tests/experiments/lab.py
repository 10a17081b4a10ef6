"""A laboratory: a fake target with one endpoint, two versions on the disk, a clock, and people who do things."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apps.experiments.models import Experiment, Readout
from apps.experiments.selectors import experiment_get
from apps.experiments.services.assign import units_assign
from apps.experiments.services.designs import experiment_create, experiment_plan
from apps.experiments.services.exposures import Taken, exposures_add
from apps.experiments.services.lifecycle import experiment_start
from apps.experiments.services.outcomes import outcomes_add
from apps.experiments.services.readouts import readout_compute, readout_request
from apps.experiments.services.ticks import experiment_tick
from apps.kernel.clock import set_clock
from apps.registry.drivers.artifacts import digest_and_size
from apps.registry.models import ModelVersion
from apps.targets.services.connect import target_probe
from apps.targets.services.reconcile import endpoint_reconcile
from tests.fakes.clock import FakeClock
from tests.fakes.registry import make_version
from tests.fakes.targets import ALICE, FakeSite, make_site

CONVERSION = {"key": "conversion", "kind": "proportion", "event": "purchase"}


def design(**changes: Any) -> dict[str, Any]:
    """A design that nothing speaks against: conversion of users from 20 % by a quarter."""
    return {
        "hypothesis": "The new version sells more.",
        "unit": "user",
        "weights_bp": {"control": 5000, "treatment": 5000},
        "metrics": [CONVERSION],
        "primary": "conversion",
        "baseline": 0.2,
        "effect_relative": 0.25,
        **changes,
    }


@dataclass
class Lab:
    site: FakeSite
    folder: Path
    clock: FakeClock
    treatment: ModelVersion
    _events: int = field(default=0)

    def draft(self, **changes: Any) -> Experiment:
        return experiment_create(
            actor=ALICE,
            name="new ranking",
            endpoint_id=self.site.endpoint.pk,
            treatment_version_id=self.treatment.pk,
            design=design(**changes),
        )

    def planned(self, **changes: Any) -> Experiment:
        return experiment_plan(actor=ALICE, experiment_id=self.draft(**changes).pk)[0]

    def running(self, **changes: Any) -> Experiment:
        experiment = experiment_start(actor=ALICE, experiment_id=self.planned(**changes).pk)
        self.settle()
        experiment_tick(experiment.pk)
        return experiment_get(experiment.pk)

    def settle(self) -> None:
        """The reconciler has told the target."""
        assert endpoint_reconcile(self.site.endpoint.pk, holder="test")

    def expose(self, experiment: Experiment, units: Sequence[str], **columns: Any) -> Taken:
        return exposures_add(actor=ALICE, experiment_id=experiment.pk, body={"units": list(units), **columns})

    def happen(self, experiment: Experiment, units: Sequence[str], event: str = "purchase", **columns: Any) -> Taken:
        self._events += 1
        ids = [f"{self._events}:{index}" for index in range(len(units))]
        body = {"ids": ids, "units": list(units), "events": [event] * len(units), **columns}
        return outcomes_add(actor=ALICE, experiment_id=experiment.pk, body=body)

    def arms(self, experiment: Experiment, units: Sequence[str]) -> list[str | None]:
        return list(units_assign(actor=ALICE, experiment_id=experiment.pk, units=list(units)).arms)

    def look(self, experiment: Experiment) -> Readout:
        return readout_compute(readout_request(actor=ALICE, experiment_id=experiment.pk).pk)

    def sell(self, experiment: Experiment, count: int, rates: dict[str, float], start: int = 0) -> None:
        """``count`` users come; in every arm exactly this share of them buys."""
        units = [f"user-{index}" for index in range(start, start + count)]
        for first in range(0, count, 5000):
            some = units[first : first + 5000]
            arms = self.arms(experiment, some)
            self.expose(experiment, some)
            for arm, rate in rates.items():
                mine = [unit for unit, its in zip(some, arms, strict=True) if its == arm]
                buyers = mine[: round(len(mine) * rate)]
                if buyers:
                    self.happen(experiment, buyers)


@contextmanager
def opened(folder: Path) -> Iterator[Lab]:
    clock = FakeClock()
    with set_clock(clock):
        site = make_site()
        site.world.clock = clock
        target_probe(actor=ALICE, target_id=site.target.pk)
        endpoint_reconcile(site.endpoint.pk, holder="test")
        site.reload()
        yield Lab(site, folder, clock, _on_disk(make_version(site.endpoint.model.name, "1.1.0"), folder))


def _on_disk(version: ModelVersion, folder: Path) -> ModelVersion:
    artifact = folder / version.semver
    artifact.mkdir()
    (artifact / "MLmodel").write_text(f"flavors: {{}} # {version.semver}\n")
    digest, _ = digest_and_size(artifact)
    ModelVersion.objects.filter(pk=version.pk).update(source_uri=artifact.as_uri(), artifact_digest=digest)
    version.refresh_from_db()
    return version
