"""Who could approve the steps of a plan: everybody with the right there, but for whoever starts it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db.models import Q

from apps.accounts.domain.roles import who_can
from apps.accounts.selectors import person_list
from apps.kernel.actor import Actor
from apps.rollouts.domain.forward import people_words
from apps.rollouts.domain.plan import FULL_BP, Plan
from apps.rollouts.services.checks import Check, Level

if TYPE_CHECKING:
    from apps.targets.models import Endpoint

ACTION = "review.decide"
PRODUCTION = "production"
NAMED = 5


@dataclass(frozen=True, slots=True)
class Approvers:
    """``names``: who could approve; ``starters``: who has the right as well, and starts it, so does not count."""

    names: list[str]
    starters: list[str]


def approvers_at(actor: Actor, endpoint: Endpoint) -> Approvers:
    """Who could approve what ``actor`` starts at ``endpoint``; people behind a key count as that person."""
    there = (
        Q(memberships__role__in=[role.value for role in who_can(ACTION)])
        & (Q(memberships__team=None) | Q(memberships__team=endpoint.team_id))
        & Q(memberships__environment__in=["", endpoint.target.environment])
    )
    rows = person_list().filter(there, is_active=True).distinct().values_list("pk", "username")
    starting = {*actor.people, *([actor.id] if actor.kind == "user" else [])}
    return Approvers(
        [name for pk, name in rows if str(pk) not in starting], [name for pk, name in rows if str(pk) in starting]
    )


def approval_checks(actor: Actor, endpoint: Endpoint, plan: Plan) -> Iterator[Check]:
    """Whether enough people could approve; for production, that nobody is asked."""
    asked = [(index, step) for index, step in enumerate(plan.steps) if step.asks_people]
    if not asked:
        is_full = any(step.weight_bp == FULL_BP for step in plan.steps)
        if is_full and endpoint.target.environment == PRODUCTION:
            detail = f"Nobody is asked before all callers of {endpoint.name} get it, and this is production."
            yield Check(Level.WARN, "no_approval", detail, "/approval")
        return
    found = approvers_at(actor, endpoint)
    for index, step in asked:
        quorum, pointer = step.quorum or 1, f"/steps/{index}/quorum"
        extra = {"approvers": found.names[:NAMED]}
        if len(found.names) >= quorum:
            yield Check(Level.PASS, "approvers", _enough(found, quorum, f" step {index + 1}"), pointer, extra)
        else:
            detail = _too_few(found, quorum, endpoint, f" step {index + 1}")
            yield Check(Level.WARN, "no_approver", detail, pointer, extra)


def approvers_words(actor: Actor, endpoint: Endpoint, quorum: int) -> tuple[Level, str]:
    """Who could approve, in one sentence; WARN when those are too few."""
    found = approvers_at(actor, endpoint)
    if len(found.names) >= quorum:
        return Level.PASS, _enough(found, quorum, "")
    return Level.WARN, _too_few(found, quorum, endpoint, "")


def _enough(found: Approvers, quorum: int, what: str) -> str:
    return f"{_listed(found.names)} could approve{what}{'' if quorum == 1 else f'; {quorum} of them must'}."


def _too_few(found: Approvers, quorum: int, endpoint: Endpoint, what: str) -> str:
    who = f"Only {_listed(found.names)}" if found.names else "Nobody"
    if found.starters and not found.names:
        who = f"Nobody but {_listed(found.starters)}, who would have started it,"
    place = f"for {endpoint.name} ({endpoint.target.environment})"
    return (
        f"{who} could approve{what}: it needs {people_words(quorum)} with the role approver {place}, and "
        "nobody approves what they started. The rollout would wait there; an admin can give the role."
    )


def _listed(names: list[str]) -> str:
    if len(names) > NAMED:
        return f"{', '.join(names[:NAMED])} and {len(names) - NAMED} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
