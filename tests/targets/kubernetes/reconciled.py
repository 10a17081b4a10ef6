"""A driver with the reconciler's one habit: what awaits another apply is applied again, under the same epoch."""

from __future__ import annotations

from collections.abc import Sequence

from apps.kernel.errors import DriverError
from apps.targets.domain.driver import Observed, ProbeReport
from apps.targets.domain.observed import divergence
from apps.targets.domain.plan import EndpointPlan
from apps.targets.drivers.kubernetes.driver import KubernetesDriver


class Reconciled:
    """What services/reconcile.py and services/observe.py do together, without their database."""

    def __init__(self, driver: KubernetesDriver) -> None:
        self.driver = driver
        self.wishes: dict[str, tuple[EndpointPlan, int]] = {}

    def apply(self, plan: EndpointPlan, *, epoch: int) -> None:
        self.driver.apply(plan, epoch=epoch)
        self.wishes[plan.endpoint] = (plan, epoch)

    def observe(self, endpoint: str) -> Observed | None:
        seen = self.driver.observe(endpoint)
        wish = self.wishes.get(endpoint)
        if wish is not None and divergence(wish[0], seen):
            try:
                self.driver.apply(wish[0], epoch=wish[1])
            except DriverError as error:
                if not error.is_retryable:
                    raise
            seen = self.driver.observe(endpoint)
        return seen

    def remove(self, endpoint: str, *, epoch: int) -> None:
        self.wishes.pop(endpoint, None)
        self.driver.remove(endpoint, epoch=epoch)

    def probe(self) -> ProbeReport:
        return self.driver.probe()

    def logs(self, endpoint: str, variant: str, *, lines: int) -> Sequence[str]:
        return self.driver.logs(endpoint, variant, lines=lines)
