"""Reads of objectives and of how they stand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import QuerySet

from apps.accounts.services.access import scope_q
from apps.alerts.domain.watches import OBJECTIVES
from apps.alerts.selectors import watch_query
from apps.kernel.actor import Actor
from apps.kernel.clock import now
from apps.kernel.errors import NotFound
from apps.kernel.verdicts import Verdict
from apps.slo.domain.objective import Kind, ObjectiveSpec, Scope
from apps.slo.domain.policy import Policy, Severity
from apps.slo.models import Burn, Objective

RELATED = ("endpoint__target", "endpoint__team", "team")
PLACE = {"team": "endpoint__team", "environment": "endpoint__target__environment"}
_WORST = {
    Verdict.FAIL: 0, Verdict.ERROR: 1, Verdict.INCONCLUSIVE: 2, Verdict.NO_DATA: 3, Verdict.PENDING: 4, Verdict.PASS: 5
}  # fmt: skip


def spec_of(objective: Objective) -> ObjectiveSpec:
    """The stored objective as numbers."""
    return ObjectiveSpec(
        objective.name, Kind(objective.kind), objective.target_ppm, Scope(objective.scope), objective.limit_ms,
        objective.window_seconds, objective.period_days, Policy.from_json(objective.policy), objective.runbook_url,
    )  # fmt: skip


def objective_list(actor: Actor | None = None, *, endpoint_id: str | None = None) -> QuerySet[Objective]:
    """Of endpoints that were not removed, by id; with ``actor`` those that they may see."""
    found = Objective.objects.filter(endpoint__removed_at=None).select_related(*RELATED).order_by("id")
    if actor is not None:
        found = found.filter(scope_q(actor, "objective.read", **PLACE))
    if endpoint_id is not None:
        found = found.filter(endpoint_id=endpoint_id)
    return found


def objective_get(objective_id: str, actor: Actor | None = None) -> Objective:
    """With its endpoint, target and team; with ``actor`` only one that they may see. Raises NotFound."""
    found = objective_list(actor).filter(pk=objective_id).first()
    if found is None:
        raise NotFound("objective_not_found", f"There is no objective {objective_id[:40]!r}, or you may not see it.")
    return found


@dataclass(frozen=True, slots=True)
class TierShown:
    """One tier as it stands. Burns are None without events in their window."""

    name: str
    severity: str
    factor: float
    long_seconds: int
    short_seconds: int
    long_burn: float | None
    short_burn: float | None
    is_firing: bool
    is_held: bool
    note: str


@dataclass(frozen=True, slots=True)
class BurnShown:
    """How one objective stands at one variant ("" for all). ``remaining``: share of the budget left, None without
    events; ``exhausts_in``: seconds until it is gone at this pace, None when it lasts. ``since``: when the first of
    ``firing`` began. ``age_seconds``: of the newest minute with requests."""

    objective_id: str
    name: str
    kind: str
    sentence: str
    variant: str
    verdict: Verdict
    reason: str
    tiers: tuple[TierShown, ...]
    firing: tuple[str, ...]
    severity: str | None
    since: datetime | None
    remaining: float | None
    exhausts_in: float | None
    total: int
    bad: int
    period_days: int
    runbook_url: str
    is_enabled: bool
    newest_at: datetime | None
    age_seconds: float | None
    computed_at: datetime | None


def burns_of(endpoint_name: str) -> list[BurnShown]:
    """Every objective of an endpoint as it stands, worst first. Two queries."""
    return burns_of_many([endpoint_name]).get(endpoint_name, [])


def burns_marks(endpoint_id: str) -> tuple[tuple[object, ...], datetime | None]:
    """What ``burns_of`` is made from, to see whether it would say something else; and when anybody last judged an
    objective, of any endpoint. One light query."""
    rows = Objective.objects.filter(endpoint_id=endpoint_id).order_by("pk", "burns__variant")
    names = ("pk", "revision", "burns__pk", "burns__revision", "burns__computed_at")
    found = list(rows.annotate(judged_at=watch_query(OBJECTIVES)).values_list(*names, "judged_at"))
    return tuple(row[:-1] for row in found), found[0][-1] if found else None


def burns_of_many(endpoint_names: Iterable[str]) -> dict[str, list[BurnShown]]:
    """``burns_of`` of many endpoints, in two queries."""
    rows = Objective.objects.filter(endpoint__removed_at=None, endpoint__name__in=list(endpoint_names))
    found: dict[str, list[BurnShown]] = defaultdict(list)
    objectives = list(rows.select_related("endpoint").order_by("id"))
    stored = burns_stored(objectives)
    for objective in objectives:
        found[objective.endpoint.name] += burns_shown(objective, stored.get(objective.pk, ()))
    return {name: sorted(burns, key=_urgency) for name, burns in found.items()}


def budget_least(burns: Iterable[BurnShown]) -> BurnShown | None:
    """The one of which the least budget is left: what "budget left" of an endpoint means, on every page. Of equal ones
    the first, which is the more urgent one where ``burns_of`` put them in order; None without a budget."""
    left = [burn for burn in burns if burn.remaining is not None]
    return min(left, key=lambda burn: burn.remaining or 0.0, default=None)


def burns_stored(objectives: Sequence[Objective]) -> dict[str, list[Burn]]:
    """The stored states by objective, one query."""
    found: dict[str, list[Burn]] = defaultdict(list)
    for burn in Burn.objects.filter(objective__in=objectives).order_by("variant"):
        found[burn.objective_id].append(burn)
    return found


def burns_shown(objective: Objective, burns: Sequence[Burn]) -> list[BurnShown]:
    """What is known of one objective: one state per variant, or one that says it was not looked at yet."""
    if not objective.is_enabled or not burns:
        return [_shown(objective, None)]
    return [_shown(objective, burn) for burn in burns]


def _shown(objective: Objective, burn: Burn | None) -> BurnShown:
    common: dict[str, Any] = {
        "objective_id": objective.pk, "name": objective.name, "kind": objective.kind,
        "sentence": spec_of(objective).sentence, "period_days": objective.period_days,
        "runbook_url": objective.runbook_url, "is_enabled": objective.is_enabled,
    }  # fmt: skip
    if burn is None:
        reason = "Not looked at yet." if objective.is_enabled else "Switched off: nobody is told."
        return BurnShown(
            variant="", verdict=Verdict.PENDING, reason=reason, tiers=(), firing=(), severity=None, since=None,
            remaining=None, exhausts_in=None, total=0, bad=0, newest_at=None, age_seconds=None, computed_at=None,
            **common,
        )  # fmt: skip
    tiers = tuple(TierShown(**tier) for tier in burn.tiers)
    severities = {tier.severity for tier in tiers if tier.is_firing}
    age = None if burn.newest_at is None else max(0.0, (now() - burn.newest_at).total_seconds() - 60.0)
    return BurnShown(
        variant=burn.variant, verdict=Verdict(burn.verdict), reason=burn.reason, tiers=tiers,
        firing=tuple(burn.firing), severity=next((one for one in Severity if one in severities), None),
        since=burn.firing_since, remaining=burn.remaining, exhausts_in=burn.exhausts_in, total=burn.total, bad=burn.bad,
        newest_at=burn.newest_at, age_seconds=age, computed_at=burn.computed_at, **common,
    )  # fmt: skip


def _urgency(burn: BurnShown) -> tuple[Any, ...]:
    """What a person at night looks at first: pages, tickets, verdicts from bad to good, what is gone soonest."""
    rank = {Severity.PAGE: 0, Severity.TICKET: 1}.get(burn.severity, 2) if burn.severity else 2  # type: ignore[call-overload]
    gone = burn.exhausts_in if burn.exhausts_in is not None else float("inf")
    return (rank, _WORST[burn.verdict], gone, burn.objective_id, burn.variant)
