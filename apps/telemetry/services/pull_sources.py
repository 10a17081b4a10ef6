"""Writing pull sources: checked, sealed, audited."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.db import IntegrityError, transaction

from apps.audit.services.record import event_record
from apps.kernel.actor import Actor
from apps.kernel.clock import now
from apps.kernel.errors import Conflict, InvalidInput, NotFound
from apps.kernel.ids import new_id
from apps.kernel.vault import seal
from apps.targets.services.scope import endpoint_require
from apps.telemetry.drivers.cloudwatch import cloudwatch_check
from apps.telemetry.drivers.prometheus_config import prometheus_check
from apps.telemetry.models import PullSource
from apps.telemetry.services.pull import token_place

CHECKS: dict[str, Callable[[Mapping[str, Any]], None]] = {
    "prometheus": prometheus_check,
    "cloudwatch": cloudwatch_check,
}
MIN_SECONDS, MAX_SECONDS = 10, 3600


def pull_source_create(
    *, actor: Actor, endpoint_id: str, kind: str, config: Mapping[str, Any], token: str = "", interval_seconds: int = 30
) -> PullSource:
    """Have an endpoint's metrics pulled. Raises InvalidInput, Conflict (there is one of this kind), Forbidden."""
    endpoint = endpoint_require(actor, "endpoint.write", endpoint_id)
    _check(kind, config, interval_seconds)
    source = PullSource(
        id=new_id("pl"), endpoint=endpoint, kind=kind, config=dict(config), interval_seconds=interval_seconds
    )
    source.token = seal(token, token_place(source.pk)) if token else ""
    try:
        with transaction.atomic():
            source.save(force_insert=True)
            _record(actor, "pull_source.created", source, {"after": _facts(source)})
    except IntegrityError as error:
        raise Conflict("pull_source_exists", f"{endpoint.name} has a {kind} source; change that one.") from error
    return source


def pull_source_update(
    *,
    actor: Actor,
    source_id: str,
    config: Mapping[str, Any] | None = None,
    token: str | None = None,
    interval_seconds: int | None = None,
    is_enabled: bool | None = None,
    revision: int | None = None,
) -> PullSource:
    """Change one; it is asked again at once. Raises NotFound, InvalidInput, Conflict, Forbidden."""
    seen = pull_source_get(actor, source_id, action="endpoint.write")
    with transaction.atomic():
        source = PullSource.objects.select_for_update(of=("self",)).select_related("endpoint").get(pk=seen.pk)
        if revision is not None and revision != source.revision:
            raise Conflict("stale_revision", "The source was changed meanwhile; look at it again.")
        before = _facts(source)
        source.config = dict(config) if config is not None else source.config
        source.interval_seconds = interval_seconds or source.interval_seconds
        source.is_enabled = source.is_enabled if is_enabled is None else is_enabled
        if token is not None:
            source.token = seal(token, token_place(source.pk)) if token else ""
        _check(source.kind, source.config, source.interval_seconds)
        source.revision += 1
        source.due_at, source.failed_since, source.fault = now(), None, ""
        source.save()
        detail = {"before": before, "after": _facts(source), "token_changed": token is not None}
        _record(actor, "pull_source.updated", source, detail)
    return source


def pull_source_delete(*, actor: Actor, source_id: str) -> None:
    """Stop pulling; what was written stays."""
    source = pull_source_get(actor, source_id, action="endpoint.write")
    with transaction.atomic():
        _record(actor, "pull_source.deleted", source, {"before": _facts(source)})
        PullSource.objects.filter(pk=source.pk).delete()


def pull_source_put(
    *,
    actor: Actor,
    endpoint_id: str,
    kind: str,
    config: Mapping[str, Any],
    token: str | None = None,
    interval_seconds: int = 30,
    is_enabled: bool = True,
    revision: int | None = None,
) -> PullSource:
    """Create or change the endpoint's source of this kind. Raises as those two do."""
    endpoint = endpoint_require(actor, "endpoint.write", endpoint_id)
    known = PullSource.objects.filter(endpoint=endpoint, kind=kind).first()
    if known is None:
        if revision:
            raise Conflict("stale_revision", "The source is gone; look at it again.")
        made = pull_source_create(
            actor=actor, endpoint_id=endpoint.pk, kind=kind, config=config, token=token or "",
            interval_seconds=interval_seconds,
        )  # fmt: skip
        if is_enabled:
            return made
        known, revision = made, None
    return pull_source_update(
        actor=actor, source_id=known.pk, config=config, token=token, interval_seconds=interval_seconds,
        is_enabled=is_enabled, revision=revision,
    )  # fmt: skip


def pull_source_remove(*, actor: Actor, endpoint_id: str, kind: str) -> None:
    """Stop pulling from this kind; there being none is fine."""
    endpoint = endpoint_require(actor, "endpoint.write", endpoint_id)
    known = PullSource.objects.filter(endpoint=endpoint, kind=kind).first()
    if known is not None:
        pull_source_delete(actor=actor, source_id=known.pk)


def pull_source_get(actor: Actor, source_id: str, *, action: str = "endpoint.read") -> PullSource:
    """One that ``actor`` may see. Raises NotFound, Forbidden."""
    source = (
        PullSource.objects.select_related("endpoint__target").filter(pk=source_id, endpoint__removed_at=None).first()
    )
    if source is None:
        raise NotFound("pull_source_not_found", f"There is no pull source {source_id!r}.")
    endpoint_require(actor, action, source.endpoint_id)
    return source


def _check(kind: str, config: Mapping[str, Any], interval_seconds: int) -> None:
    if kind not in CHECKS:
        raise InvalidInput.at("/kind", "bad_kind", f"kind is one of {', '.join(CHECKS)}.")
    if not MIN_SECONDS <= interval_seconds <= MAX_SECONDS:
        raise InvalidInput.at(
            "/interval_seconds", "bad_interval", f"interval_seconds lies between {MIN_SECONDS} and {MAX_SECONDS}."
        )
    CHECKS[kind](config)


def _facts(source: PullSource) -> dict[str, Any]:
    return {
        "kind": source.kind, "config": source.config, "interval_seconds": source.interval_seconds,
        "is_enabled": source.is_enabled,
    }  # fmt: skip


def _record(actor: Actor, verb: str, source: PullSource, detail: dict[str, Any]) -> None:
    event_record(
        actor=actor, verb=verb, subject_kind="endpoint", subject_id=source.endpoint_id,
        subject_label=source.endpoint.name, detail={"source": source.pk, **detail},
    )  # fmt: skip
