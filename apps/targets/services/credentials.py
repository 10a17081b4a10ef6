"""What opens a target, kept in the vault: written, replaced, opened for a driver, and shown to nobody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from apps.audit.services.record import event_record
from apps.kernel.actor import Actor
from apps.kernel.errors import InvalidInput
from apps.kernel.services.outbox import enqueue_task
from apps.kernel.vault import Place, VaultFault, open_sealed, seal
from apps.targets.models import Target
from apps.targets.selectors import target_get
from apps.targets.services.scope import shared_require

KINDS = ("kubernetes",)


def credentials_replace(
    *, actor: Actor, target_id: str, credentials: Mapping[str, Any], keeps_others: bool = False
) -> Target:
    """Put others in the place of a target's credentials; every process uses them from its next call on, and the target
    is probed. {} forgets them, where the connection names files (or the pod's own account) instead. ``keeps_others``:
    fields that are not given stay as they are, such as the CA beside a new token.

    Raises NotFound, Forbidden (``target.write`` for every team in its environment), InvalidInput naming the field.
    """
    from apps.targets.services.drivers import driver_checked  # it opens what this module seals

    target = target_get(target_id, actor)
    shared_require(actor, "target.write", target.environment)
    given = sorted(credentials)
    if keeps_others:
        credentials = {**credentials_kept(target), **credentials}
    credentials_check(target.kind, credentials)
    driver_checked(target.kind, target.connection, credentials)
    with transaction.atomic():
        Target.objects.filter(pk=target.pk).update(
            credentials=credentials_sealed(target.pk, credentials),
            credentials_at=Now() if credentials else None,
            revision=F("revision") + 1,
        )
        enqueue_task("targets.probe", target_id=target.pk)
        event_record(
            actor=actor, verb="target.updated", subject_kind="target", subject_id=target.pk, subject_label=target.name,
            detail={"credentials": "replaced" if credentials else "forgotten", "fields": given},
        )  # fmt: skip
    return target_get(target.pk)


def credentials_check(kind: str, credentials: Mapping[str, Any]) -> None:
    """Raises InvalidInput where targets of that kind take none."""
    if credentials and kind not in KINDS:
        raise InvalidInput.at("/credentials", "not_supported", f"Targets of kind {kind} take no credentials here.")


def credentials_sealed(target_id: str, credentials: Mapping[str, Any]) -> str:
    """As they may stand in the row; bound to it, so that a copy in another row does not open."""
    return seal(orjson.dumps(dict(credentials)).decode(), _place(target_id)) if credentials else ""


def credentials_opened(target_id: str, sealed: str) -> dict[str, Any]:
    """Raises VaultFault."""
    return orjson.loads(open_sealed(sealed, _place(target_id))) if sealed else {}


def credentials_kept(target: Target) -> dict[str, Any]:
    """What is stored, for services that put something beside it; {} where it does not open any more."""
    try:
        return credentials_opened(target.pk, target.credentials)
    except VaultFault:
        return {}  # sealed by a key that is lost: renewing is the way out, so all of it must be typed again


def _place(target_id: str) -> Place:
    return Place(Target._meta.db_table, target_id, "credentials")
