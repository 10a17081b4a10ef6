"""What an objective would have done in the last days, before it is kept. Reads only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from apps.kernel.actor import Actor
from apps.kernel.clock import now
from apps.kernel.errors import InvalidInput, Unavailable
from apps.slo.domain.board import MINUTE, Series
from apps.slo.domain.objective import SUM_KIND, ObjectiveSpec, Scope, objective_parse
from apps.slo.domain.replay import Replay, replay
from apps.slo.services.objectives import spec_parse
from apps.slo.services.record import objective_require
from apps.slo.services.watch import sums_read
from apps.targets.services.scope import endpoint_require

MAX_DAYS: Final = 30


def objective_replay(
    *,
    actor: Actor,
    endpoint_id: str = "",
    objective_id: str = "",
    given: Mapping[str, Any],
    days: int = MAX_DAYS,
    variant: str = "",
) -> tuple[ObjectiveSpec, Replay]:
    """Judge every minute of the last ``days`` as if this had been the objective: a new one at ``endpoint_id``, or
    ``objective_id`` with the changes in ``given``. ``variant``: which version, where each has its own account; the
    stable one where it is left out. A tier that can never fire is no error here but part of the answer.

    Raises NotFound, Forbidden (``objective.read``), InvalidInput, Unavailable (what is stored cannot be read).
    """
    if not 1 <= days <= MAX_DAYS:
        raise InvalidInput.at("/days", "out_of_range", f"days is a whole number from 1 to {MAX_DAYS}.")
    if objective_id:
        row = objective_require(actor, "objective.read", objective_id)
        endpoint, spec = row.endpoint, spec_parse(row, given)
    else:
        endpoint = endpoint_require(actor, "objective.read", endpoint_id)
        spec = objective_parse(given)
    until = int(now().timestamp()) // MINUTE * MINUTE  # the open minute is not over yet
    since = until - days * 86_400
    series = Series(endpoint.name, _variant(endpoint, spec, variant), SUM_KIND[spec.kind], spec.limit_seconds)
    try:
        sums = sums_read(series, since, until)
    except ValueError as error:
        detail = f"What was counted at {endpoint.name} cannot be read: {error}. Nothing was changed."
        raise Unavailable("telemetry_damaged", detail) from error
    return spec, replay(spec, since, until, sums.minutes, sums.total, sums.bad)


def _variant(endpoint: Any, spec: ObjectiveSpec, wanted: str) -> str | None:
    if spec.scope is Scope.ALL:
        if wanted:
            raise InvalidInput.at("/variant", "not_for_this_scope", "variant has no meaning for all versions together.")
        return None
    keys = [variant["key"] for variant in endpoint.desired.get("variants", ())]
    if wanted and wanted not in keys:
        raise InvalidInput.at("/variant", "unknown_variant", f"{endpoint.name} runs {', '.join(keys) or 'nothing'}.")
    stable = [variant["key"] for variant in endpoint.desired.get("variants", ()) if variant["role"] == "stable"]
    return wanted or (stable or keys or [""])[0]
