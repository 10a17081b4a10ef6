"""Which arm a unit belongs to, and the header that brings it there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from apps.experiments.domain.arm_header import ARM_HEADER
from apps.experiments.domain.words import ARMS, COLLECTING, Unit
from apps.experiments.models import Experiment
from apps.experiments.selectors import design_of
from apps.experiments.services.exposures import Taken, exposures_add
from apps.experiments.services.scope import experiment_require
from apps.kernel.actor import Actor
from apps.kernel.errors import InvalidInput
from apps.kernel.stats.assignment import arm_ranges, arms_of

MAX_UNITS = 5_000


@dataclass(frozen=True, slots=True)
class Assigned:
    """``arms``: one per unit, None where the unit takes no part (or nothing runs): call without the header then.
    ``values``: arm -> value of ``header``; {} while nothing runs."""

    status: str
    header: str
    values: Mapping[str, str]
    arms: tuple[str | None, ...]
    exposed: Taken | None = field(default=None)


def units_assign(
    *,
    actor: Actor,
    experiment_id: str,
    units: Sequence[str],
    has_exposure: bool = False,
    dimensions: Mapping[str, Sequence[Any]] | None = None,
    covariates: Sequence[float | None] | None = None,
) -> Assigned:
    """The arm of each unit, the same for ever: nothing is stored, it follows from the unit's hash.

    ``has_exposure`` also reports that the units see their arm now. Raises NotFound, Forbidden
    (``experiment.report``), InvalidInput (/units; unit ``request`` is split by the gateway).
    """
    experiment = experiment_require(actor, "experiment.report", experiment_id)
    if design_of(experiment).unit is Unit.REQUEST:
        raise InvalidInput.at(
            "/units",
            "split_by_request",
            "Requests of this experiment are split by the gateway: just call the endpoint.",
        )
    _check(units)
    if experiment.status not in COLLECTING:
        return Assigned(experiment.status, ARM_HEADER, {}, (None,) * len(units))
    numbers = arms_of(experiment.salt, units, ranges_of(experiment))
    arms = tuple(None if number < 0 else ARMS[number] for number in numbers)
    exposed = None
    if has_exposure:
        inside = [index for index, arm in enumerate(arms) if arm is not None]
        body: dict[str, Any] = {"units": [units[i] for i in inside], "arms": [arms[i] for i in inside]}
        if covariates is not None:
            body["covariates"] = [covariates[i] for i in inside]
        if dimensions:
            body["dimensions"] = {name: [column[i] for i in inside] for name, column in dimensions.items()}
        exposed = exposures_add(actor=actor, experiment_id=experiment_id, body=body)
    return Assigned(experiment.status, ARM_HEADER, dict(experiment.arm_values), arms, exposed)


def ranges_of(experiment: Experiment) -> Any:
    """The arms' stretches of the line under the present coverage."""
    return arm_ranges(design_of(experiment).arm_weights, experiment.coverage_bp)


def _check(units: Sequence[str]) -> None:
    if not 1 <= len(units) <= MAX_UNITS:
        raise InvalidInput.at("/units", "count", f"units must hold 1 to {MAX_UNITS:,} texts.")
    for index, unit in enumerate(units):
        if not isinstance(unit, str) or not 0 < len(unit) <= 200 or "\x00" in unit:
            raise InvalidInput.at(f"/units/{index}", "invalid", "A unit is a text of 1 to 200 characters.")
