"""Following a target that can say when something changed."""

from __future__ import annotations

import structlog

from apps.kernel.errors import DriverError, InvalidInput
from apps.targets.domain.extras import Watched
from apps.targets.models import Endpoint, Target
from apps.targets.selectors import target_get
from apps.targets.services.drivers import driver_for
from apps.targets.services.freshness import target_answered
from apps.targets.services.observe import observed_news, observed_store

log = structlog.get_logger(__name__)


def targets_to_watch() -> list[str]:
    """Ids of the targets whose driver can be watched; one with an unusable connection is not, its probe says so."""
    return [target.pk for target in Target.objects.order_by("pk") if _can_be_watched(target)]


def target_watch(target_id: str, *, after_revision: int, wait_seconds: float) -> int:
    """One long poll: wait for news, store what is new, return the revision to ask with next.

    Endpoints that the target does not list are stored as unknown there. Two reads when nothing changed, whatever the
    number of endpoints. An unreachable target is written once to each of its endpoints; DriverError then goes on to
    the caller, who waits before trying again. Raises NotFound, DriverError.
    """
    target = target_get(target_id)
    driver = driver_for(target)
    if not isinstance(driver, Watched):
        raise TypeError(f"targets of kind {target.kind} cannot be watched")
    try:
        revision, found = driver.watch(after_revision=after_revision, wait_seconds=wait_seconds)
    except DriverError as error:
        for endpoint in Endpoint.objects.filter(target_id=target_id, generation__gt=0):
            if observed_news(endpoint, None, error.detail):
                observed_store(endpoint_id=endpoint.pk, observed=None, error=error.detail)
        raise
    by_name = {observed.endpoint: observed for observed in found}
    for endpoint in Endpoint.objects.filter(target_id=target_id, generation__gt=0):
        observed = by_name.get(endpoint.name)
        if observed_news(endpoint, observed, ""):
            observed_store(endpoint_id=endpoint.pk, observed=observed)
    target_answered(target_id)
    return revision


def _can_be_watched(target: Target) -> bool:
    try:
        return isinstance(driver_for(target), Watched)
    except (InvalidInput, DriverError) as error:
        log.info("target_not_watchable", target=target.name, code=error.code)
        return False
