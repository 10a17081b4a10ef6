"""Comparing a version with the one in whose shadow it runs, from sampled requests that both answered."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from apps.experiments.domain.shadow import compare, pairs_of
from apps.kernel.actor import Actor
from apps.kernel.canonical import sha256_of
from apps.kernel.clock import now
from apps.kernel.errors import Conflict, InvalidInput
from apps.targets.selectors import plan_of
from apps.targets.services.scope import endpoint_require
from apps.telemetry.selectors import sample_pairs

MOST = timedelta(days=7)
"""Samples are kept that long."""
MAX_PAIRS = 20_000


@dataclass(frozen=True, slots=True)
class Compared:
    endpoint: str
    first: str
    second: str
    since: datetime
    until: datetime
    result: dict[str, Any]
    inputs_hash: str


def shadow_compare(
    *,
    actor: Actor,
    endpoint_id: str,
    first: str = "",
    second: str = "",
    segment: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
    alpha: float = 0.05,
) -> Compared:
    """``first`` (a variant's key; "" for the stable one) against ``second`` ("" for the one that gets copies now).

    The pairs are requests of which both answers were sampled: traffic of the first, copied to the second. Raises
    NotFound, Forbidden (``experiment.read``), InvalidInput, Conflict ``no_shadow``.
    """
    endpoint = endpoint_require(actor, "experiment.read", endpoint_id)
    end = until or now()
    begin = since or end - MOST
    if not begin < end:
        raise InvalidInput.at("/since", "bad_range", "since must lie before until.")
    if not 0.0 < alpha < 1.0:
        raise InvalidInput.at("/alpha", "out_of_range", f"alpha must lie strictly between 0 and 1, got {alpha!r}.")
    plan = plan_of(endpoint)
    mirror = plan.route.mirror.variant if plan is not None and plan.route.mirror is not None else ""
    stable = endpoint.stable_version.variant_key if endpoint.stable_version is not None else ""
    if not (first or stable) or not (second or mirror):
        raise Conflict("no_shadow", f"No version runs in the shadow of {endpoint.name}: mirror its traffic first.")
    first, other = first or stable, second or mirror
    if first == other:
        raise InvalidInput.at("/second", "same_version", "Choose two versions: one agrees with itself always.")
    found = sample_pairs(endpoint.name, first, other, since=begin, until=end, limit=MAX_PAIRS)
    pairs = [pair for row in found for pair in pairs_of(row.inputs, row.first, row.second, row.label, segment)]
    digest = sha256_of({"pairs": sorted((row.request_id, repr(row.label)) for row in found), "alpha": alpha,
                        "versions": [first, other], "segment": segment})  # fmt: skip
    return Compared(endpoint.name, first, other, begin, end, compare(pairs, alpha=alpha), digest)
