"""Making targets run what is desired: the last of the four verbs."""

from __future__ import annotations

import time
from datetime import timedelta
from enum import Enum, auto

import structlog
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from apps.kernel.errors import DomainError
from apps.targets.domain.backoff import retry_delay_seconds
from apps.targets.domain.driver import StaleEpoch, TargetUnreachable
from apps.targets.models import Endpoint
from apps.targets.selectors import plan_of
from apps.targets.services.drivers import driver_for
from apps.targets.services.idle import endpoints_to_check
from apps.targets.services.lease import lease_release, lease_take
from apps.targets.services.observe import endpoint_observe, endpoint_publish

log = structlog.get_logger(__name__)

LEASE_SECONDS = 10.0
"""Above the longest call of a driver (local: 2 s to connect, 5 s for an answer), or a slow apply would be done twice;
a worker killed while it holds the lease delays the next apply by no more than this. A lease that runs out too early
costs a repeated call and nothing else: the epoch fences off the late one."""
PASS_SECONDS = 20.0  # one pass over what is due ends then; the next one goes on


class _Told(Enum):
    ACCEPTED = auto()
    BUSY = auto()  # another holder has the lease and will apply
    FENCED = auto()
    FAILED = auto()
    UNREACHABLE = auto()


def endpoint_reconcile(endpoint_id: str, *, holder: str) -> bool:
    """Tell the target what is desired now; True when it has accepted it. Call it outside any transaction.

    1. take the lease (another holder has it: False, it will apply);
    2. read what is desired *after* that, so that nothing older than the lease is sent;
    3. apply under the lease's epoch. StaleEpoch: somebody newer acted, give up quietly;
    4. store the outcome, only if it says something new and the lease is still ours; give the lease back.
    """
    return _reconcile(endpoint_id, holder) is _Told.ACCEPTED


def reconcile_due(limit: int, holder: str) -> int:
    """Reconcile what is due, then look at idle endpoints whose second it is; returns how many were accepted.

    An endpoint that agrees costs reads only: whose turn it is follows from a hash of its id, not from a column. A
    target that does not answer is asked once per pass, not once for each of its endpoints.
    """
    due = (
        Endpoint.objects.filter(reconcile_due_at__lte=Now())
        # one whose last call failed is due too: the target may or may not have what was sent
        .exclude(applied_generation=F("generation"), apply_error="")
        .order_by("reconcile_due_at")
        .values_list("pk", "target_id")[:limit]
    )
    end_at = time.monotonic() + PASS_SECONDS
    accepted, silent = 0, set()
    for endpoint_id, target_id in list(due):
        if target_id in silent or time.monotonic() > end_at:
            continue
        told = _reconcile(endpoint_id, holder)
        accepted += told is _Told.ACCEPTED
        if told is _Told.UNREACHABLE:
            silent.add(target_id)
    for endpoint_id, target_id in endpoints_to_check(limit):
        if target_id not in silent and time.monotonic() <= end_at:
            _check(endpoint_id)
    return accepted


def _check(endpoint_id: str) -> None:
    """Look at one that is idle. A fault of ours at it must not end the pass over the others."""
    try:
        endpoint_observe(endpoint_id)
    except Exception:
        log.exception("endpoint_check_failed", endpoint=endpoint_id)


def _reconcile(endpoint_id: str, holder: str) -> _Told:
    epoch = lease_take(endpoint_id, holder=holder, seconds=LEASE_SECONDS)
    if epoch is None:
        return _Told.BUSY
    try:
        return _tell(Endpoint.objects.select_related("target").get(pk=endpoint_id), epoch)
    finally:
        lease_release(endpoint_id, holder=holder, epoch=epoch)


def _tell(endpoint: Endpoint, epoch: int) -> _Told:
    try:
        _call_driver(endpoint, epoch)
    except StaleEpoch as error:
        log.warning("apply_fenced", endpoint=endpoint.name, epoch=epoch, generation=endpoint.generation, **error.extra)
        _catch_up(endpoint, epoch, error)
        return _Told.FENCED
    except DomainError as error:
        _store_failure(endpoint, epoch, error.detail, is_retryable=error.is_retryable)
        return _Told.UNREACHABLE if isinstance(error, TargetUnreachable) else _Told.FAILED
    except Exception as error:
        # a bug in a driver or a row nobody foresaw: it must not keep the endpoints behind it in the queue from being
        # reconciled, so it is shown on the endpoint, logged with its traceback, and tried again slowly
        log.exception("apply_crashed", endpoint=endpoint.name)
        _store_failure(endpoint, epoch, f"Internal error: {type(error).__name__}.", is_retryable=False)
        return _Told.FAILED
    _store_success(endpoint, epoch)
    return _Told.ACCEPTED


def _call_driver(endpoint: Endpoint, epoch: int) -> None:
    driver, plan = driver_for(endpoint.target), plan_of(endpoint)
    if endpoint.removed_at is not None:
        driver.remove(endpoint.name, epoch=epoch)
    elif plan is not None:
        driver.apply(plan, epoch=epoch)


def _catch_up(endpoint: Endpoint, epoch: int, error: StaleEpoch) -> None:
    """Epochs come from this database alone. A target that has seen a higher one than the *present* lease's shows that
    the database went back in time (a restored backup): go on above it. A lease that was merely lost has another epoch
    in the row by now, and nothing happens."""
    seen = int(error.extra.get("current_epoch", 0))
    ours = Endpoint.objects.filter(pk=endpoint.pk, lease_epoch=epoch)
    if seen > epoch and ours.update(lease_epoch=seen, lease_holder="", lease_until=None):
        log.warning("epoch_behind_target", endpoint=endpoint.name, epoch=epoch, target_epoch=seen)


def _store_success(endpoint: Endpoint, epoch: int) -> None:
    if endpoint.applied_generation == endpoint.generation and not endpoint.apply_error:
        return
    with transaction.atomic():
        changed = Endpoint.objects.filter(pk=endpoint.pk, lease_epoch=epoch).update(
            applied_generation=endpoint.generation, apply_error="", apply_attempts=0, revision=F("revision") + 1
        )
        if changed:
            endpoint_publish(endpoint.pk)


def _store_failure(endpoint: Endpoint, epoch: int, detail: str, *, is_retryable: bool) -> None:
    failures = endpoint.apply_attempts
    delay = timedelta(seconds=retry_delay_seconds(failures, is_retryable=is_retryable))
    is_news = endpoint.apply_error != detail
    with transaction.atomic():
        # not when desired anew meanwhile: the new plan is due at once, the old one's failure says nothing about it
        changed = Endpoint.objects.filter(pk=endpoint.pk, lease_epoch=epoch, generation=endpoint.generation).update(
            apply_error=detail,
            apply_attempts=min(failures + 1, 1000),
            reconcile_due_at=Now() + delay,
            revision=F("revision") + (1 if is_news else 0),
        )
        if changed and is_news:
            endpoint_publish(endpoint.pk)
    log.warning("apply_failed", endpoint=endpoint.name, detail=detail, is_retryable=is_retryable, failures=failures + 1)
