"""Changing a connected target: checked, asked and compared first, and only then stored. Its name and kind stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from apps.audit.services.record import event_record
from apps.kernel.actor import Actor
from apps.kernel.clock import now
from apps.kernel.errors import Conflict, DriverError, FieldError, InvalidInput, PolicyRefused
from apps.kernel.services.outbox import enqueue_task, publish_live
from apps.targets.domain.change import Difference, differences_of, held_in, homes_in, remakes_pods
from apps.targets.domain.driver import Driver, ProbeReport
from apps.targets.domain.extras import Remaking
from apps.targets.images.builds import OPEN
from apps.targets.models import Endpoint, Environment, ImageBuild, Target
from apps.targets.selectors import plan_of, target_get
from apps.targets.services.connect import probe_values, words_faults
from apps.targets.services.connection_check import connection_faults, faults_refuse
from apps.targets.services.credentials import credentials_kept, credentials_sealed
from apps.targets.services.drivers import driver_for, driver_made
from apps.targets.services.scope import shared_require
from apps.targets.services.under_way import busy, under_way


@dataclass(frozen=True, slots=True)
class TargetChange:
    """A change as it would be made. ``target`` is the row that it was compared with, ``values`` the columns after it;
    ``credentials`` the whole set after it, None while they stay; ``replaced`` and ``forgotten`` name some of them.
    ``report`` is what the target said with the new settings; without one ``probe_error`` says why."""

    target: Target
    values: Mapping[str, Any]
    differences: tuple[Difference, ...]
    credentials: Mapping[str, Any] | None = None
    replaced: tuple[str, ...] = ()
    forgotten: tuple[str, ...] = ()
    report: ProbeReport | None = None
    probe_error: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not self.differences and self.credentials is None


def target_change(
    *,
    actor: Actor,
    target_id: str,
    environment: str | None = None,
    connection: Mapping[str, Any] | None = None,
    no_traffic_policy: str | None = None,
    credentials: Mapping[str, Any] | None = None,
    found: Sequence[FieldError] = (),
) -> TargetChange:
    """What would change, checked, with the target asked under the new settings; nothing is written. Call it outside
    any transaction. What is None stays; ``connection`` replaces the whole of it; of ``credentials`` those that are
    given are replaced, and those given as None forgotten. ``found``: faults that the caller has found already.

    Raises NotFound, Forbidden (``target.write`` for every team, in the environment before and after), InvalidInput
    naming every faulty field, Conflict ``endpoints_served``, ``under_way`` and ``build_under_way``.
    """
    target = target_get(target_id, actor)
    shared_require(actor, "target.write", target.environment)
    values: dict[str, Any] = {
        "environment": target.environment if environment is None else environment,
        "no_traffic_policy": target.no_traffic_policy if no_traffic_policy is None else no_traffic_policy,
        "connection": target.connection if connection is None else dict(connection),
    }
    faults = [*words_faults(target.kind, values["environment"], values["no_traffic_policy"]), *found]
    if values["environment"] in set(Environment):
        shared_require(actor, "target.write", values["environment"])
    kept = credentials_kept(target)
    given = {key: value for key, value in (credentials or {}).items() if value is not None or key in kept}
    after = {key: value for key, value in {**kept, **given}.items() if value is not None}
    faults += connection_faults(target.kind, values["connection"], after)
    faults_refuse(faults)
    before = {name: getattr(target, name) for name in values}
    change = TargetChange(
        target,
        values,
        differences_of(before, values),
        after if given else None,
        tuple(sorted(key for key, value in given.items() if value is not None)),
        tuple(sorted(key for key, value in given.items() if value is None)),
    )
    if change.is_empty:
        return change
    _refuse_held(change)
    return _asked(change, after)


def target_update(
    *, actor: Actor, change: TargetChange, expected_revision: int | None = None, even_if_silent: bool = False
) -> Target:
    """Store what ``target_change`` made a moment ago. ``even_if_silent``: although the target did not answer.

    Raises Forbidden, PolicyRefused ``target_silent``, Conflict ``stale_revision`` (somebody changed it since) and what
    may have begun since: ``endpoints_served``, ``under_way``, ``build_under_way``.
    """
    target = change.target
    for environment in (target.environment, change.values["environment"]):
        shared_require(actor, "target.write", environment)
    if expected_revision not in (None, target.revision):
        raise _stale(target)
    if change.is_empty:
        return target
    if change.probe_error and not even_if_silent:
        raise PolicyRefused(
            "target_silent",
            f"{target.name} does not answer with these settings: {change.probe_error} Nothing was changed; correct "
            "them, or say that they are to be stored all the same.",
            extra={"probe_error": change.probe_error},
        )
    with transaction.atomic():
        _refuse_held(change, is_held=True)
        _store(change)
        enqueue_task("targets.probe", target_id=target.pk)
        publish_live("fleet", id=target.pk, revision=int(now().timestamp()))
        event_record(
            actor=actor, verb="target.updated", subject_kind="target", subject_id=target.pk, subject_label=target.name,
            detail=_told(change),
        )  # fmt: skip
    return target_get(target.pk)


def _asked(change: TargetChange, credentials: Mapping[str, Any]) -> TargetChange:
    report, error, warnings = None, "", []
    try:
        driver = driver_made(change.target.kind, change.values["connection"], credentials)
        warnings = _warnings(change, driver)
        report = driver.probe()
    except (DriverError, InvalidInput) as fault:
        error = fault.detail
    return TargetChange(
        change.target, change.values, change.differences, change.credentials, change.replaced, change.forgotten,
        report, error, tuple(warnings),
    )  # fmt: skip


def _warnings(change: TargetChange, driver: Driver) -> list[str]:
    """Whose pods are replaced with it, and how, endpoint by endpoint."""
    if not remakes_pods(change.differences) or not isinstance(driver, Remaking):
        return []
    try:
        before = driver_for(change.target)
    except (DriverError, InvalidInput):
        return []  # what it is changed from opens nothing any more: there is nothing to compare with
    found = []
    for endpoint in _served(change.target):
        plan = plan_of(endpoint) if endpoint.removed_at is None else None
        said = driver.remade(plan, before) if plan is not None else ()
        if said:
            found.append(
                f"{endpoint.name}: {'; '.join(said)}. No guardrail watches that, only being ready counts: where "
                "the new ones never are, the old go on serving."
            )
    return found


def _refuse_held(change: TargetChange, *, is_held: bool = False) -> None:
    """Refuse what would pull the ground from under something that is served, moved or built there now."""
    served = _served(change.target)
    homes, held = homes_in(change.differences), held_in(change.differences)
    if homes and served:
        names = ", ".join(one.name for one in served)
        raise Conflict(
            "endpoints_served",
            f"{_listed(homes)} may not change while endpoints are served there, they would be left behind: {names}. "
            "Remove them first, or connect the other place as a target of its own.",
            extra={"fields": homes, "endpoints": [one.name for one in served]},
        )
    moving = under_way(served, is_held=is_held) if held else {}
    if moving:
        raise busy("under_way", _listed(held), moving)
    builds = ImageBuild.objects.filter(target=change.target, state__in=OPEN)
    ours = [one.path for one in change.differences if one.is_below(("connection.build", "connection.namespace"))]
    if ours and builds.exists():
        ids = ", ".join(builds.values_list("pk", flat=True)[:10])
        raise Conflict(
            "build_under_way", f"{_listed(ours)} may not change while images are built there: {ids}. Stop them first."
        )


def _served(target: Target) -> list[Endpoint]:
    """Endpoints that are there, or still being removed there."""
    there = Q(removed_at=None) | ~Q(applied_generation=F("generation"))
    return list(Endpoint.objects.filter(there, target=target).order_by("name"))


def _store(change: TargetChange) -> None:
    values = {
        **change.values,
        **(probe_values(change.report) if change.report else {"probe_error": change.probe_error}),
    }
    if change.credentials is not None:
        values["credentials"] = credentials_sealed(change.target.pk, change.credentials)
        values["credentials_at"] = Now() if change.credentials else None
    row = Target.objects.filter(pk=change.target.pk, revision=change.target.revision)
    if not row.update(**values, probed_at=Now(), revision=F("revision") + 1):
        raise _stale(target_get(change.target.pk))


def _told(change: TargetChange) -> dict[str, Any]:
    """Before and after, of what changed. Credentials only by name: what they were and are, nobody is told."""
    told: dict[str, Any] = {
        "before": {one.path: one.before for one in change.differences},
        "after": {one.path: one.after for one in change.differences},
    }
    if change.credentials is not None:
        told["credentials"] = {"replaced": list(change.replaced), "forgotten": list(change.forgotten)}
    return told


def _listed(paths: Sequence[str]) -> str:
    return ", ".join(path.removeprefix("connection.") for path in paths)


def _stale(target: Target) -> Conflict:
    return Conflict(
        "stale_revision",
        f"{target.name} was changed since you looked: it is at revision {target.revision} now. Look again.",
        extra={"revision": target.revision},
    )
