"""Random experiments, stored as sums, looked at a few times, and taken along as bundles."""

from __future__ import annotations

import io
import zipfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from apps.experiments.domain.check import design_parse
from apps.experiments.domain.sums import UNITS
from apps.experiments.models import Cell, Experiment, Period
from apps.experiments.services.export import readout_bundle
from apps.kernel.stats.moments import Moments
from tests.experiments.lab import Lab, design
from tests.fakes.targets import ALICE

KINDS = ("proportion", "mean", "ratio", "covariate", "adjusted proportion")
HOUR = 3600


def bundle(lab: Lab, seed: int, folder: Path) -> tuple[Path, str]:
    """An experiment that may be anything: (where its bundle lies, what was decided)."""
    random = np.random.default_rng([20_260_107, seed])
    experiment = _made(lab, random, KINDS[seed % len(KINDS)], seed)
    for _ in range(int(random.integers(1, 5))):
        _add(lab, experiment, random)
        lab.clock.forward(int(random.integers(1, 9)) * 86_400)
        look = lab.look(experiment)
    name, raw = readout_bundle(actor=ALICE, readout_id=look.pk)
    place = folder / f"{seed:03d}-{name.removesuffix('.zip')}"
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        archive.extractall(place)
    return place, look.kind


def _made(lab: Lab, random: np.random.Generator, kind: str, seed: int) -> Experiment:
    """Stopped, so that many fit on one endpoint; what its looks say does not depend on it."""
    share = int(random.choice([1000, 3000, 5000, 5000]))
    metric: dict[str, Any] = {
        "key": "primary", "event": "purchase", "higher_is_better": bool(random.random() < 0.8),
        "kind": {"covariate": "mean", "adjusted proportion": "proportion"}.get(kind, kind),
        "has_covariate": kind in {"covariate", "adjusted proportion"}, "denominator": "view" if kind == "ratio" else "",
    }  # fmt: skip
    numbers = {"baseline": 0.2} if "proportion" in kind else {"baseline": 20.0, "spread": 9.0}
    other = {"key": "other", "kind": "proportion", "event": "complaint", "higher_is_better": False}
    parsed = design_parse(
        design(
            metrics=[metric, other], primary="primary", effect_relative=0.1, **numbers,
            guardrails=[{"metric": "other", "margin": 0.05}] if random.random() < 0.5 else [],
            mode=str(random.choice(["group_sequential", "group_sequential", "always_valid"])),
            alpha=float(random.choice([0.01, 0.05, 0.1])), weights_bp={"control": 10_000 - share, "treatment": share},
        )
    )  # fmt: skip
    total = int(random.integers(300, 6000))
    experiment = Experiment.objects.create(
        name=f"random {seed}", endpoint=lab.site.endpoint, control_version=lab.site.stable,
        treatment_version=lab.treatment, design=parsed.to_json(), design_hash=parsed.design_hash, status="stopped",
        planned_total=total, tuned_total=total, minimum_days=int(random.integers(1, 15)), created_by="a test",
        started_at=lab.clock(), ended_at=lab.clock() + timedelta(days=100),
    )  # fmt: skip
    for number in range(1, int(random.integers(1, 4)) + 1):
        Period.objects.create(
            experiment=experiment, number=number, route_period=number, weights_bp=parsed.weights_bp,
            coverage_bp=10_000, started_at=lab.clock(),
        )  # fmt: skip
    return experiment


def _add(lab: Lab, experiment: Experiment, random: np.random.Generator) -> None:
    """Units of one hour in every period; now and then of one arm only, or a crooked split."""
    hour = int(lab.clock().timestamp()) // HOUR
    weights = experiment.design["weights_bp"]
    rows = []
    effect = float(random.choice([-0.2, 0.0, 0.1, 0.4]))
    for period in range(1, experiment.periods.count() + 1):
        units = int(random.integers(40, 1500))
        crooked = 0.7 if random.random() < 0.05 else 1.0
        for arm, name in enumerate(("control", "treatment")):
            n = int(random.binomial(units, weights[name] / 10_000 * (crooked if arm else 1.0)))
            if not n:
                continue
            first = _moments(experiment.design["metrics"][0], n, effect * arm, random)
            second = Moments.from_counts(int(random.binomial(n, 0.1 * (1 + 0.3 * arm))), n)
            for key, found in (("primary", first), ("other", second), (UNITS, None)):
                sums = [float(x) for x in found.sums] if found is not None else []
                centred = [float(x) for x in found.centred.ravel()] if found is not None else []
                rows.append(Cell(experiment=experiment, period=period, arm=arm, metric=key, hour=hour, n=n, sums=sums,
                                 centred=centred))  # fmt: skip
    Cell.objects.bulk_create(rows)


def _moments(metric: dict[str, Any], n: int, lift: float, random: np.random.Generator) -> Moments:
    before = random.normal(20.0, 8.0, n)
    if metric["kind"] == "proportion":
        happened = (random.random(n) < np.clip(0.2 * (1 + lift) + 0.004 * (before - 20.0), 0.0, 1.0)).astype(float)
        return Moments.of(happened, before) if metric["has_covariate"] else Moments.of(happened)
    values = (before + random.exponential(9.0, n)) * (1.0 + lift)
    if metric["kind"] == "ratio":
        return Moments.of(values, random.poisson(4.0, n) + 1.0)
    return Moments.of(values, before) if metric["has_covariate"] else Moments.of(values)
