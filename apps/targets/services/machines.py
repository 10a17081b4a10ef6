"""How full the machines are that targets run their processes on."""

from __future__ import annotations

from apps.targets.domain.extras import Machine, MachineKnown
from apps.targets.models import Target
from apps.targets.services.drivers import driver_for


def machine_of(target: Target, *, seconds: float) -> Machine | None:
    """Asks the target; None where it has no machine of its own (a cluster) or cannot say. Call it outside any
    transaction. Raises DriverError, InvalidInput."""
    driver = driver_for(target)
    return driver.machine(seconds=seconds) if isinstance(driver, MachineKnown) else None
