"""What rings by the clock. Tasks are named, never imported; a test checks that every name is registered.

Each entry expires before the next few are due: a worker that was away finds one doorbell waiting, not a thousand.
"""

from __future__ import annotations

from typing import Any

BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    "rollouts-tick": {"task": "rollouts.tick_due", "schedule": 1.0, "options": {"expires": 3}},
    "targets-reconcile": {"task": "targets.reconcile_due", "schedule": 2.0, "options": {"expires": 5}},
    "accounts-sweep": {"task": "accounts.sweep", "schedule": 3600.0, "options": {"expires": 3000}},
    "telemetry-prune": {"task": "telemetry.prune", "schedule": 600.0, "options": {"expires": 500}},
}
