"""Writing down what targets really do: only when it changed, and told to open pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import structlog
from django.db import transaction
from django.db.models.functions import Now

from apps.kernel.errors import DriverError, NotFound
from apps.kernel.services.outbox import enqueue_task, publish_many
from apps.targets.domain.driver import Observed
from apps.targets.domain.extras import LogSource
from apps.targets.domain.observed import divergence, observed_from_json, observed_to_json, without_vitals
from apps.targets.models import Endpoint
from apps.targets.selectors import endpoint_get, plan_of
from apps.targets.services.drivers import driver_for
from apps.targets.services.story import Told, changes_record, changes_told

log = structlog.get_logger(__name__)

LATE_ANSWER = timedelta(seconds=30)


def endpoint_observe(endpoint_id: str) -> Observed | None:
    """Ask the target now, store what it says, return it. Call it outside any transaction.

    None when the target knows no such endpoint *or* could not be asked; then ``observe_error`` of the row says why and
    ``observed`` keeps what was last seen. Raises NotFound.
    """
    endpoint = Endpoint.objects.select_related("target").filter(pk=endpoint_id).first()
    if endpoint is None:
        raise NotFound("endpoint_not_found", "There is no such endpoint.")
    try:
        observed = driver_for(endpoint.target).observe(endpoint.name)
    except DriverError as error:
        observed_store(endpoint_id=endpoint_id, observed=None, error=error.detail)
        return None
    observed_store(endpoint_id=endpoint_id, observed=observed)
    return observed


def observed_store(*, endpoint_id: str, observed: Observed | None, error: str = "") -> bool:
    """Write ``observed`` when it says something new; True when it did. Costs one read when it does not.

    With ``error`` the target could not be asked: the last observation stays, the error is written beside it once.
    ``observed=None`` without an error: the target does not know the endpoint. Memory, processor time and the time of
    looking are no news, so ``observed_at`` in the row is when the state was first seen like this; when it was last
    confirmed is kept outside the database (``services/freshness.py``), because an idle endpoint costs no write.

    When the target holds something else than it had accepted, ``applied_generation`` falls to 0: due for a reconcile.
    """
    stored = Endpoint.objects.filter(pk=endpoint_id).first()
    if stored is None or not observed_news(stored, observed, error):
        return False
    with transaction.atomic():
        # read again under a row lock: the watch and a tick may both have seen news, and the newer one must stay
        stored = Endpoint.objects.select_for_update(no_key=True).get(pk=endpoint_id)
        if not observed_news(stored, observed, error):
            return False
        told = Told() if error else changes_told(stored, observed)
        _write(stored, observed, error, told)
        endpoint_publish(endpoint_id)
        changes_record(stored, told)
    return True


def observed_news(stored: Endpoint, observed: Observed | None, error: str) -> bool:
    """Whether an observation says anything that the row does not."""
    if error:
        return stored.observe_error != error
    if stored.observe_error:
        return True
    if observed is None:
        return stored.observed is not None or _lost(stored, observed)
    if stored.observed is None:
        return True
    wire = observed_to_json(observed)
    if without_vitals(wire) == without_vitals(stored.observed):
        return _lost(stored, observed)
    return not _is_late(stored.observed, observed)


def endpoint_publish(endpoint_id: str) -> None:
    """Tell open pages the endpoint's newest revision."""
    with transaction.atomic():
        revision = Endpoint.objects.values_list("revision", flat=True).get(pk=endpoint_id)
        frame = {"id": endpoint_id, "revision": revision}
        publish_many([(f"endpoint:{endpoint_id}", frame), ("fleet", frame)])


def endpoint_logs(endpoint_id: str, variant: str, *, lines: int = 100) -> Sequence[str]:
    """What a variant's processes last wrote, oldest first; empty when the driver keeps no logs.

    Raises DriverError, and NotFound where the target answers that it has none of that variant.
    """
    endpoint = endpoint_get(endpoint_id)
    driver = driver_for(endpoint.target)
    if not isinstance(driver, LogSource):
        return []
    try:
        return driver.logs(endpoint.name, variant, lines=lines)
    except DriverError as error:
        if error.code == "not_found":
            raise NotFound("log_not_found", error.detail) from error
        raise


def _write(stored: Endpoint, observed: Observed | None, error: str, told: Told) -> None:
    changes: dict[str, Any] = {"observe_error": error[:2000], "revision": stored.revision + 1}
    if not error:
        changes["observed"] = observed and observed_to_json(replace(observed, changes=told.standing))
        changes["observed_at"] = Now() if observed is None or observed.observed_at is None else observed.observed_at
        if _lost(stored, observed):
            changes |= {"applied_generation": 0, "reconcile_due_at": Now()}
            enqueue_task("targets.reconcile", endpoint_id=stored.pk)  # callers may get no answer: not at the next tick
            _log_loss(stored, observed)
        elif _is_worth_a_try(stored, observed):
            changes["reconcile_due_at"] = Now()
            enqueue_task("targets.reconcile", endpoint_id=stored.pk)
    Endpoint.objects.filter(pk=stored.pk).update(**changes)


def _log_loss(stored: Endpoint, observed: Observed | None) -> None:
    """A target that only waits for its next piece is on its way; anything else there is somebody's doing."""
    reason = _divergence(stored, observed)
    if observed is not None and reason and reason == observed.awaits_apply and not observed.changes:
        log.info("endpoint_awaits_apply", endpoint=stored.name, reason=reason)
    else:
        log.warning("endpoint_diverged", endpoint=stored.name, reason=reason)


def _lost(stored: Endpoint, observed: Observed | None) -> bool:
    """Whether the target no longer holds the generation that it had accepted."""
    if stored.applied_generation == 0 or stored.applied_generation != stored.generation:
        return False  # due already
    if stored.removed_at is not None:
        return observed is not None
    return bool(_divergence(stored, observed))


def _is_worth_a_try(stored: Endpoint, observed: Observed | None) -> bool:
    """After a refusal the next try comes in a minute: a person has to change something first. Now something is gone
    besides, so that callers may get no answer, or what was in dispute is as desired again."""
    if not stored.apply_error or stored.observed is None or observed is None:
        return False
    before = observed_from_json(stored.observed).changes
    missing = [one for one in observed.changes if not one.field]
    return any(not any(one.same_as(old) for old in before) for one in missing) or bool(before and not observed.changes)


def _divergence(stored: Endpoint, observed: Observed | None) -> str:
    plan = plan_of(stored)
    return divergence(plan, observed) if plan is not None else ""


def _is_late(before: dict[str, Any], observed: Observed) -> bool:
    """An answer older than the stored one lost a race; one far older means that the target's clock was set back."""
    known = observed_from_json(before)
    if (observed.epoch, observed.generation) > (known.epoch, known.generation):
        return False
    if observed.observed_at is None or known.observed_at is None:
        return False
    return timedelta(0) < known.observed_at - observed.observed_at < LATE_ANSWER
