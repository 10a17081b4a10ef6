"""When the engine itself fails at a rollout: kept on its row, told on its pages, cleared by the next good look.

A command that must not wait for a repaired engine (abort, roll back) is kept in the row until a look succeeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Coalesce

from apps.audit.services.record import event_record
from apps.kernel.actor import Actor
from apps.kernel.clock import now
from apps.kernel.services.outbox import enqueue_task
from apps.rollouts.domain.state import Command, Request
from apps.rollouts.models import Rollout
from apps.rollouts.services.observe import Look
from apps.rollouts.services.record import rollout_publish


def look_failed(rollout_id: str, error: Exception) -> str:
    """Write down that a look ended in ``error``; nothing when the row says so already. The sentence that is shown."""
    sentence = f"{type(error).__name__}: {error}"[:500].replace("\x00", "")
    with transaction.atomic():
        row = Rollout.objects.filter(pk=rollout_id).exclude(look_error=sentence)
        if row.update(look_error=sentence, look_failed_at=Coalesce(F("look_failed_at"), now())):
            _publish(rollout_id)
    return sentence


def command_keep(actor: Actor, rollout_id: str, request: Request, error: Exception) -> None:
    """Keep ``request`` for the first good look, since this one ended in ``error``; audited as what it is."""
    sentence = look_failed(rollout_id, error)
    told = (
        f"{request.command.value} was asked for by {actor.label} and will be carried out when the engine can look again"
    )
    with transaction.atomic():
        asked = {"command": request.command.value, "by": request.by, "reason": request.reason}
        Rollout.objects.filter(pk=rollout_id).update(asked=asked, due_at=now(), reason=f"{told}; it failed: {sentence}")
        _publish(rollout_id)
        enqueue_task("rollouts.tick", rollout_id=rollout_id)
        event_record(
            actor=actor,
            verb="rollout.command_kept",
            subject_kind="rollout",
            subject_id=rollout_id,
            subject_label=rollout_id,
            detail={**asked, "error": sentence},
        )


def asked_request(look: Look) -> Look:
    """The look with the command that was kept."""
    kept: Mapping[str, str] = look.rollout.asked or {}
    return replace(look, seen=look.seen.with_request(Request(Command(kept["command"]), kept["by"], kept["reason"])))


def _publish(rollout_id: str) -> None:
    endpoint_id, revision, endpoint_revision = Rollout.objects.values_list(
        "endpoint_id", "revision", "endpoint__revision"
    ).get(pk=rollout_id)
    rollout_publish(rollout_id, endpoint_id, revision, endpoint_revision)
