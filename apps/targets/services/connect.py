"""Connecting targets, and creating and removing endpoints on them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from django.db import IntegrityError, transaction
from django.db.models import F
from django.db.models.functions import Now

from apps.accounts.services.access import access_require
from apps.audit.services.record import event_record
from apps.kernel.actor import SYSTEM, Actor
from apps.kernel.clock import now
from apps.kernel.errors import Conflict, DriverError, FieldError, InvalidInput, PolicyRefused
from apps.kernel.services.outbox import enqueue_task, publish_live
from apps.registry.selectors import version_get
from apps.registry.services.verify import unverified_sentence
from apps.targets.domain.driver import ProbeReport
from apps.targets.domain.plan import FULL_BP, Role
from apps.targets.models import Endpoint, Environment, Target, TargetKind, TrafficPolicy
from apps.targets.models import target_id as new_target_id
from apps.targets.selectors import endpoint_get, target_get
from apps.targets.services.connection_check import connection_faults, faults_refuse
from apps.targets.services.credentials import credentials_sealed
from apps.targets.services.desire import endpoint_desire, held
from apps.targets.services.drivers import driver_for
from apps.targets.services.scope import endpoint_require, shared_require
from apps.targets.services.variants import variant_of

if TYPE_CHECKING:
    from apps.registry.models import Model

_NAME = re.compile(r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$")


def target_create(
    *,
    actor: Actor,
    name: str,
    kind: str,
    environment: str = Environment.DEVELOPMENT,
    connection: Mapping[str, Any] | None = None,
    no_traffic_policy: str = TrafficPolicy.HOLD,
    credentials: Mapping[str, Any] | None = None,
    found: Sequence[FieldError] = (),
) -> Target:
    """Store a target and ask for a probe; ``credentials`` go into the vault. ``found``: faults that the caller has
    found already, told with those of here.

    Raises Forbidden (``target.write`` for every team in that environment), InvalidInput naming every faulty field,
    Conflict ``name_taken``.
    """
    secrets, wanted = dict(credentials or {}), dict(connection or {})
    faults = [*_name_faults(name), *words_faults(kind, environment, no_traffic_policy), *found]
    if environment in set(Environment):  # who may not connect one there learns nothing of files and hosts
        shared_require(actor, "target.write", environment)
        faults += connection_faults(kind, wanted, secrets) if kind in set(TargetKind) else []
    if faults and Target.objects.filter(name=name).exists():
        faults = [FieldError("/name", "name_taken", _target_taken(name).detail), *faults]
    faults_refuse(faults)
    key = new_target_id()
    try:
        with transaction.atomic():
            target = Target.objects.create(
                pk=key,
                credentials=credentials_sealed(key, secrets),
                credentials_at=now() if secrets else None,
                name=name,
                kind=kind,
                environment=environment,
                connection=wanted,
                no_traffic_policy=no_traffic_policy,
            )
            enqueue_task("targets.probe", target_id=target.pk)
            publish_live("fleet", id=target.pk, revision=0)
            _record(actor, "target.created", "target", target.pk, name, {"kind": kind, "environment": environment})
    except IntegrityError as error:
        raise _target_taken(name) from error
    return target


def words_faults(kind: str, environment: str, no_traffic_policy: str) -> list[FieldError]:
    """Which of them is no word that is known."""
    return [
        FieldError(pointer, "unknown", f"{value!r} is none of {', '.join(known)}.")
        for pointer, value, known in (
            ("/kind", kind, TargetKind),
            ("/environment", environment, Environment),
            ("/no_traffic_policy", no_traffic_policy, TrafficPolicy),
        )
        if value not in set(known)
    ]


def target_probe(*, actor: Actor = SYSTEM, target_id: str) -> ProbeReport | None:
    """Ask the target what it can do and store the answer; None when it could not be asked (``probe_error`` says why).

    Written, and audited, only when the answer differs from the stored one. Call it outside any transaction.
    """
    target = target_get(target_id, actor)
    shared_require(actor, "target.write", target.environment)
    report: ProbeReport | None = None
    found: dict[str, Any] = {"probe_error": ""}
    try:
        report = driver_for(target).probe()
        found |= probe_values(report)
    except (DriverError, InvalidInput) as error:
        found["probe_error"] = error.detail
    is_news = any(getattr(target, field) != value for field, value in found.items())
    with transaction.atomic():
        Target.objects.filter(pk=target.pk).update(**found, probed_at=Now())
        if is_news:
            publish_live("fleet", id=target.pk, revision=int(now().timestamp()))
            _record(actor, "target.updated", "target", target.pk, target.name, found)
    return report


def probe_values(report: ProbeReport) -> dict[str, Any]:
    """What a probe found, as a target's row keeps it."""
    return {
        "probe_error": "",
        "capabilities": {
            **asdict(report.capabilities),
            "version": report.version,
            "gateway_url": report.gateway_url,
            "warnings": list(report.warnings),
            "facts": dict(report.facts),
        },
    }


def endpoint_create(
    *, actor: Actor, name: str, target_id: str, model_id: str, version_id: str, follows: str = ""
) -> Endpoint:
    """An endpoint whose stable variant serves ``version_id`` with all traffic; it belongs to the model's team.

    A name that was removed comes back as the same row: its epochs and generations must go on growing, because the
    target remembers the last ones and refuses lower. Raises NotFound, Forbidden (``endpoint.write`` in the model's team
    and the target's environment), InvalidInput, PolicyRefused, Conflict.
    """
    name_check(name)
    target, version = target_get(target_id, actor), version_get(version_id)
    access_require(actor, "endpoint.write", version.model.team_id, target.environment)
    if version.model_id != model_id:
        raise InvalidInput.at("/version_id", "other_model", f"{version.semver} is not a version of this model.")
    _check_servable(target, version)
    _check_alias(follows)
    try:
        with transaction.atomic():
            endpoint = _row(name, target, version.model, follows)
            endpoint_desire(
                actor=actor,
                endpoint_id=endpoint.pk,
                variants=[variant_of(version, Role.STABLE)],
                weights_bp={version.variant_key: FULL_BP},
                epoch=None,
                reason="endpoint created",
                stable_version_id=version.pk,
            )
            detail = {"target": target.name, "model": version.model.name, "version": version.semver}
            detail |= {"follows": follows} if follows else {}
            _record(actor, "endpoint.created", "endpoint", endpoint.pk, name, detail)
    except IntegrityError as error:
        raise _name_taken(name) from error
    return endpoint_get(endpoint.pk)


def endpoint_remove(*, actor: Actor, endpoint_id: str, reason: str) -> None:
    """Stop serving: the row stays (history points at it), the reconciler removes it at the target.

    Whoever holds the lease is fenced off by a higher epoch. A rollout in progress is the caller's to refuse: this app
    knows none. Raises NotFound, Forbidden, Conflict.
    """
    endpoint = endpoint_require(actor, "endpoint.write", endpoint_id)
    if endpoint.traffic_holder:
        raise held(endpoint)
    with transaction.atomic():
        unheld = Endpoint.objects.filter(pk=endpoint.pk, removed_at=None, traffic_holder="")
        rows = unheld.filter(generation=endpoint.generation).update(
            removed_at=Now(),
            generation=F("generation") + 1,
            revision=F("revision") + 1,
            lease_epoch=F("lease_epoch") + 1,
            lease_holder="",
            lease_until=None,
            apply_attempts=0,
            reconcile_due_at=Now(),
        )
        if rows == 0:
            raise Conflict("endpoint_moved", f"Endpoint {endpoint.name} was changed meanwhile; look again.")
        publish_live(f"endpoint:{endpoint.pk}", id=endpoint.pk, revision=endpoint.revision + 1)
        publish_live("fleet", id=endpoint.pk, revision=endpoint.revision + 1)
        enqueue_task("targets.reconcile", endpoint_id=endpoint.pk)
        _record(actor, "endpoint.removed", "endpoint", endpoint.pk, endpoint.name, {"reason": reason})


def _row(name: str, target: Target, model: Model, follows: str) -> Endpoint:
    former = Endpoint.objects.select_for_update().filter(name=name).first()
    if former is None:
        return Endpoint.objects.create(name=name, target=target, model=model, team_id=model.team_id, follows=follows)
    if former.removed_at is None:
        raise _name_taken(name)
    if former.target_id != target.pk and former.applied_generation != former.generation:
        raise Conflict("removal_unfinished", f"{name} is still being removed from its former target; try again soon.")
    former.removed_at, former.target, former.model, former.team_id = None, target, model, model.team_id
    former.follows = follows
    former.observed, former.observed_at, former.observe_error, former.apply_error = None, None, "", ""
    former.save()
    return former


def endpoint_follow(*, actor: Actor, endpoint_id: str, follows: str) -> Endpoint:
    """Let an endpoint follow an alias of its model ("": none): an approved move of it starts a rollout there.

    Raises NotFound, Forbidden (``endpoint.write``), InvalidInput.
    """
    endpoint = endpoint_require(actor, "endpoint.write", endpoint_id)
    _check_alias(follows)
    with transaction.atomic():
        changed = Endpoint.objects.filter(pk=endpoint.pk, removed_at=None).exclude(follows=follows)
        if changed.update(follows=follows, revision=F("revision") + 1):
            publish_live(f"endpoint:{endpoint.pk}", id=endpoint.pk, revision=endpoint.revision + 1)
            detail = {"follows": {"before": endpoint.follows, "after": follows}}
            _record(actor, "endpoint.desired", "endpoint", endpoint.pk, endpoint.name, detail)
    return endpoint_get(endpoint.pk)


def _check_alias(follows: str) -> None:
    if len(follows) > 255 or "\x00" in follows:
        raise InvalidInput.at("/follows", "bad_alias", "An alias has at most 255 characters.")


def _target_taken(name: str) -> Conflict:
    return Conflict("name_taken", f"There is a target named {name} already; choose another name.")


def _name_faults(name: str) -> list[FieldError]:
    try:
        name_check(name)
    except InvalidInput as error:
        return list(error.fields)
    return []


def name_check(name: str, *, pointer: str = "/name") -> None:
    """Names stand in addresses and in other systems' paths. Raises InvalidInput at ``pointer``."""
    if not _NAME.match(name):
        raise InvalidInput.at(pointer, "bad_name", f"{name!r} is not 1 to 63 lower-case letters, digits and hyphens.")


def _check_servable(target: Target, version: Any) -> None:
    if version.status != "ready":
        raise PolicyRefused(
            "version_not_ready", f"Version {version.semver} is {version.status}; only a ready version can be served."
        )
    if version.trust == "unverified":
        raise PolicyRefused("version_unverified", unverified_sentence(version), extra={"version": version.pk})
    place = version.storage_uri or version.source_uri
    parts = urlsplit(place)
    # a local target reads the same disk as we do; elsewhere the target itself finds out and says so
    if target.kind == TargetKind.LOCAL and parts.scheme in {"", "file"} and not Path(unquote(parts.path)).exists():
        raise PolicyRefused(
            "artifact_gone",
            f"The files of version {version.semver} are no longer at {place}; register it again.",
        )


def _name_taken(name: str) -> Conflict:
    return Conflict("name_taken", f"There is an endpoint named {name} already; choose another name.")


def _record(actor: Actor, verb: str, kind: str, subject_id: str, label: str, detail: Mapping[str, Any]) -> None:
    event_record(actor=actor, verb=verb, subject_kind=kind, subject_id=subject_id, subject_label=label, detail=detail)
