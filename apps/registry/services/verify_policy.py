"""Which formats a model's versions may have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from django.db import transaction
from django.db.models import Q, QuerySet

from apps.accounts.selectors import team_get
from apps.accounts.services.access import access_require
from apps.audit.services.record import event_record
from apps.kernel.actor import ANY, Actor
from apps.kernel.clock import now
from apps.kernel.errors import InvalidInput, PolicyRefused
from apps.registry.domain.formats import PICKLES, Format
from apps.registry.domain.inspection import DEFAULT_ALLOWED, NEVER, FormatPolicy, Inspection, refusals
from apps.registry.models import FormatRule, Model
from apps.registry.selectors import readable_teams
from apps.registry.services.locks import model_allowed

WRITE = "policy.write"
_SHOWN_REASONS = 8
SCOPES = ("model", "team", "all")
_CLOSEST = {scope: rank for rank, scope in enumerate(SCOPES)}


def format_policy_of(model: Model) -> FormatPolicy:
    """The model's own rule, else its team's, else everybody's, else the default."""
    rules = FormatRule.objects.filter(
        Q(scope="model", scope_id=model.pk) | Q(scope="team", scope_id=model.team_id) | Q(scope="all")
    )
    rule = min(rules, key=lambda one: _CLOSEST[one.scope], default=None)
    if rule is None:
        return FormatPolicy()
    known = {one for one in Format if one.value in set(rule.allowed)}
    origin = {"model": "this model's", "team": "its team's", "all": "the house's"}[rule.scope]
    return FormatPolicy(DEFAULT_ALLOWED | known, rule.allow_pickle, origin)


def formats_judge(model: Model, inspection: Inspection, code: Sequence[str]) -> None:
    """Raises PolicyRefused ``format_refused`` with the sentences that name the rule."""
    reasons = refusals(inspection, format_policy_of(model), code=code)
    if not reasons:
        return
    more = len(reasons) - _SHOWN_REASONS
    told = " ".join(reasons[:_SHOWN_REASONS]) + (f" And {more} more files." if more > 0 else "")
    raise PolicyRefused("format_refused", told, extra={"reasons": reasons[:200], "inspection": inspection.as_dict()})


def format_rules(actor: Actor) -> QuerySet[FormatRule]:
    """The rules that count for models which the actor may read, unordered."""
    teams = readable_teams(actor)
    if teams is None:
        return FormatRule.objects.all()
    models = Model.objects.filter(team_id__in=teams).values("pk")
    own = Q(scope="team", scope_id__in=teams) | Q(scope="model", scope_id__in=models)
    return FormatRule.objects.filter(Q(scope="all") | own)


def format_rule_set(
    *, actor: Actor, scope: str, name: str = "", allowed: Iterable[str] = (), allow_pickle: bool, reason: str
) -> FormatRule:
    """Set the rule of a model (by name), a team (by slug or id) or of all ("" as name).

    Raises InvalidInput, NotFound and Forbidden (``policy.write`` in that team; for all, everywhere).
    """
    wanted = sorted(set(allowed))
    open_to_choice = {one.value for one in Format if one not in NEVER | PICKLES}
    wrong = [one for one in wanted if one not in open_to_choice]
    if wrong:
        detail = f"{wrong[0][:80]!r} cannot be allowed by name; known are {', '.join(sorted(open_to_choice))}."
        raise InvalidInput.at("/allowed", "bad_format", detail)
    if allow_pickle and not reason.strip():
        raise InvalidInput.at("/reason", "reason_missing", "Say why pickles are allowed; it is kept in the audit log.")
    scope_id = _scope_id(actor, scope, name)
    with transaction.atomic():
        before = FormatRule.objects.select_for_update().filter(scope=scope, scope_id=scope_id).first()
        seen = {"allowed": before.allowed, "allow_pickle": before.allow_pickle} if before else {}
        rule, _ = FormatRule.objects.update_or_create(
            scope=scope,
            scope_id=scope_id,
            defaults={
                "allowed": wanted,
                "allow_pickle": allow_pickle,
                "reason": reason[:2000],
                "set_by": actor.label,
                "set_at": now(),
            },
        )
        event_record(
            actor=actor,
            verb="format_rule.set",
            subject_kind="format_rule",
            subject_id=str(rule.pk),
            subject_label=f"{scope} {name}".strip(),
            detail={
                "before": seen,
                "after": {"allowed": wanted, "allow_pickle": allow_pickle},
                "reason": reason[:2000],
            },
        )
    return rule


def _scope_id(actor: Actor, scope: str, name: str) -> str:
    if scope not in SCOPES or bool(name) == (scope == "all"):
        raise InvalidInput.at("/scope", "bad_scope", "Say model or team with a name, or all without one.")
    match scope:
        case "model":
            return str(model_allowed(name, actor=actor, action=WRITE).pk)
        case "team":
            team = team_get(name)
            access_require(actor, WRITE, team.pk)
            return team.pk
        case _:
            access_require(actor, WRITE, ANY)
            return ""
