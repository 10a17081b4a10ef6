"""Objectives: made, changed, deleted, and the default set of every new endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.db import IntegrityError, transaction
from django.db.models import F

from apps.accounts.services.access import team_for
from apps.alerts.services.incidents import incidents_clear
from apps.kernel.actor import SYSTEM, Actor
from apps.kernel.errors import Conflict, InvalidInput
from apps.slo.domain.objective import DEFAULTS, ObjectiveSpec, objective_parse
from apps.slo.domain.policy import Profile
from apps.slo.models import Burn, Objective, Seeded
from apps.slo.selectors import objective_get, objective_list, spec_of
from apps.slo.services.record import objective_record, objective_require, objective_tell
from apps.targets.selectors import endpoint_list
from apps.targets.services.scope import endpoint_require

if TYPE_CHECKING:
    from apps.targets.models import Endpoint

MAX_PER_ENDPOINT = 50
SOURCE = "slo"
_FIELDS = (
    "name", "kind", "target_ppm", "scope", "limit_ms", "window_seconds", "period_days", "policy", "runbook_url"
)  # fmt: skip


def objective_create(*, actor: Actor, endpoint_id: str, team: str = "", **given: Any) -> Objective:
    """A new objective of an endpoint (id or name). ``given`` as domain/objective.py:objective_parse takes it; ``team``
    (id or slug) owns it, by default the endpoint's.

    Raises NotFound, Forbidden (``objective.write``), InvalidInput naming every field that is wrong, Conflict.
    """
    endpoint = endpoint_require(actor, "objective.write", endpoint_id)
    is_enabled = given.pop("is_enabled", True)
    spec = objective_parse(given)
    owner = _owner(actor, endpoint, team)
    if objective_list(endpoint_id=endpoint.pk).count() >= MAX_PER_ENDPOINT:
        raise Conflict("too_many_objectives", f"{endpoint.name} has {MAX_PER_ENDPOINT} objectives; delete one first.")
    row = Objective(endpoint=endpoint, team_id=owner, created_by=actor.label, is_enabled=is_enabled, **stored(spec))
    with transaction.atomic():
        _saved(row, endpoint)
        objective_tell(row)
        objective_record(actor, "objective.created", row, {"after": said(row)})
    return objective_get(row.pk)


def objective_update(*, actor: Actor, objective_id: str, expected_revision: int, **changes: Any) -> Objective:
    """Change what is named. Raises NotFound, Forbidden (``objective.write``), InvalidInput, Conflict
    (``objective_moved`` when somebody else was faster)."""
    row = objective_require(actor, "objective.write", objective_id)
    before, spec = said(row), spec_parse(row, changes)
    values: dict[str, Any] = {**stored(spec), "is_enabled": changes.get("is_enabled", row.is_enabled)}
    if changes.get("team"):
        values["team_id"] = _owner(actor, row.endpoint, changes["team"])
    is_same_count = all(values[name] == getattr(row, name) for name in ("kind", "limit_ms", "scope"))
    with transaction.atomic():
        found = Objective.objects.filter(pk=row.pk, revision=expected_revision)
        try:
            with transaction.atomic():
                is_mine = found.update(revision=F("revision") + 1, **values) == 1
        except IntegrityError as error:
            raise _name_taken(row.endpoint, spec.name) from error
        if not is_mine:
            raise Conflict("objective_moved", "This objective was changed by somebody else meanwhile; look again.")
        row = objective_get(row.pk)
        after = said(row)
        objective_tell(row)
        if not row.is_enabled or not is_same_count:
            _forget(row)
        changed = [name for name in after if before[name] != after[name]]
        detail = {"before": {name: before[name] for name in changed}, "after": {name: after[name] for name in changed}}
        objective_record(actor, "objective.updated", row, detail)
    return row


def objective_delete(*, actor: Actor, objective_id: str, expected_revision: int) -> None:
    """With its states; an alert that is on about it is closed. Raises NotFound, Forbidden, Conflict."""
    row = objective_require(actor, "objective.write", objective_id)
    with transaction.atomic():
        locked = Objective.objects.select_for_update().filter(pk=row.pk, revision=expected_revision)
        if not locked.exists():
            raise Conflict("objective_moved", "This objective was changed by somebody else meanwhile; look again.")
        _forget(row)
        objective_tell(row)
        Objective.objects.filter(pk=row.pk).delete()
        objective_record(actor, "objective.deleted", row, {"before": said(row)})


def objectives_seed() -> int:
    """Give every endpoint that never had any the default set, those from before this existed too; returns how many
    endpoints. Whoever changes or deletes them afterwards is not overruled."""
    made = 0
    seeded = Seeded.objects.values("endpoint_id")
    for endpoint in endpoint_list().exclude(pk__in=seeded)[:50]:
        with transaction.atomic():
            _, is_new = Seeded.objects.get_or_create(endpoint_id=endpoint.pk)
            if not is_new:
                continue  # another worker was faster
            has = set(Objective.objects.filter(endpoint_id=endpoint.pk).values_list("name", flat=True))
            Objective.objects.bulk_create(
                Objective(endpoint=endpoint, team_id=endpoint.team_id, created_by=SYSTEM.label, **stored(spec))
                for spec in DEFAULTS
                if spec.name not in has
            )
            made += 1
    return made


def spec_parse(row: Objective, changes: Mapping[str, Any]) -> ObjectiveSpec:
    """What the objective would be with ``changes``; of a policy too, what is not named stays. Raises InvalidInput."""
    given = {name: changes[name] for name in _FIELDS if name in changes}
    if "policy" in given:
        policy = dict(given["policy"] or {})
        is_custom = policy.get("profile", row.policy["profile"]) == Profile.CUSTOM
        kept = {name: row.policy[name] for name in ("min_bad", "floor_requests")}
        kept |= {"profile": row.policy["profile"]} if not policy.get("tiers") else {}
        kept |= {"tiers": row.policy["tiers"]} if is_custom else {}
        given["policy"] = {**kept, **policy}
    return objective_parse({**stored(spec_of(row)), **given})


def stored(spec: ObjectiveSpec) -> dict[str, Any]:
    """The columns of an objective."""
    return {
        "name": spec.name,
        "kind": spec.kind.value,
        "scope": spec.scope.value,
        "target_ppm": spec.target_ppm,
        "limit_ms": spec.limit_ms,
        "window_seconds": spec.window_seconds,
        "period_days": spec.period_days,
        "policy": spec.policy.to_json(),
        "runbook_url": spec.runbook_url,
    }


def said(row: Objective) -> dict[str, Any]:
    """What the audit log keeps of an objective."""
    return {**{name: getattr(row, name) for name in _FIELDS}, "is_enabled": row.is_enabled, "team": row.team_id}


def key_of(objective_id: str, variant: str) -> str:
    """The key of its incident."""
    return f"{SOURCE}:{objective_id}:{variant}" if variant else f"{SOURCE}:{objective_id}"


def _forget(row: Objective) -> None:
    """What was counted no longer says anything about it: states go, incidents close."""
    variants = list(Burn.objects.filter(objective_id=row.pk).values_list("variant", flat=True))
    Burn.objects.filter(objective_id=row.pk).delete()
    incidents_clear(source=SOURCE, keys=[key_of(row.pk, variant) for variant in ("", *variants)])


def _owner(actor: Actor, endpoint: Endpoint, team: str) -> str:
    if not team:
        return endpoint.team_id
    return team_for(actor, "objective.read", team).pk


def _saved(row: Objective, endpoint: Endpoint) -> None:
    try:
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError as error:
        raise _name_taken(endpoint, row.name) from error


def _name_taken(endpoint: Endpoint, name: str) -> InvalidInput:
    return InvalidInput.at("/name", "name_taken", f"{endpoint.name} has an objective {name!r} already.")
