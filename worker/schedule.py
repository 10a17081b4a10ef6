"""What rings by the clock. Tasks are named, never imported; a test checks that every name is registered.

Each entry expires before the next few are due: a worker that was away finds one doorbell waiting, not a thousand.
"""

from __future__ import annotations

from typing import Any

BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    "rollouts-tick": {"task": "rollouts.tick_due", "schedule": 1.0, "options": {"expires": 3}},
    "rollouts-promotions": {"task": "rollouts.promotions_due", "schedule": 30.0, "options": {"expires": 30}},
    "rollouts-warm": {"task": "rollouts.warm_release_due", "schedule": 5.0, "options": {"expires": 5}},
    "rollouts-sequences": {"task": "rollouts.sequences_due", "schedule": 2.0, "options": {"expires": 5}},
    "targets-reconcile": {"task": "targets.reconcile_due", "schedule": 2.0, "options": {"expires": 5}},
    "targets-image-builds": {"task": "targets.image_builds_due", "schedule": 5.0, "options": {"expires": 5}},
    "slo-evaluate": {"task": "slo.evaluate", "schedule": 10.0, "options": {"expires": 10}},
    "experiments-tick": {"task": "experiments.tick_due", "schedule": 2.0, "options": {"expires": 5}},
    "experiments-watch": {"task": "experiments.watch", "schedule": 30.0, "options": {"expires": 30}},
    "experiments-sum": {"task": "experiments.sum_due", "schedule": 3600.0, "options": {"expires": 3000}},
    "experiments-raw-drop": {"task": "experiments.raw_drop_due", "schedule": 3600.0, "options": {"expires": 3000}},
    "accounts-sweep": {"task": "accounts.sweep", "schedule": 3600.0, "options": {"expires": 3000}},
    "alerts-collect": {"task": "alerts.collect", "schedule": 2.0, "options": {"expires": 5}},
    "alerts-look": {"task": "alerts.look", "schedule": 15.0, "options": {"expires": 15}},
    "alerts-send": {"task": "alerts.send_due", "schedule": 10.0, "options": {"expires": 10}},
    "alerts-notices": {"task": "alerts.notices_due", "schedule": 10.0, "options": {"expires": 10}},
    "alerts-sources": {"task": "alerts.sources", "schedule": 15.0, "options": {"expires": 15}},
    "alerts-remind": {"task": "alerts.remind", "schedule": 30.0, "options": {"expires": 30}},
    "alerts-prune": {"task": "alerts.prune", "schedule": 3600.0, "options": {"expires": 3000}},
    "audit-checkpoint": {"task": "audit.checkpoint", "schedule": 30.0, "options": {"expires": 30}},
    "audit-ship": {"task": "audit.ship", "schedule": 30.0, "options": {"expires": 30}},
    "reviews-expire": {"task": "reviews.expire", "schedule": 10.0, "options": {"expires": 10}},
    "registry-verify": {"task": "registry.verify_due", "schedule": 10.0, "options": {"expires": 10}},
    "registry-import": {"task": "registry.import_due", "schedule": 30.0, "options": {"expires": 30}},
    "registry-webhooks": {"task": "registry.send_webhooks_due", "schedule": 10.0, "options": {"expires": 10}},
    "registry-uploads": {"task": "registry.expire_uploads", "schedule": 3600.0, "options": {"expires": 3000}},
    "telemetry-roll-up": {"task": "telemetry.roll_up", "schedule": 30.0, "options": {"expires": 30}},
    "telemetry-discover": {"task": "telemetry.discover", "schedule": 600.0, "options": {"expires": 500}},
    "telemetry-log-inferences": {"task": "telemetry.log_inferences", "schedule": 30.0, "options": {"expires": 30}},
    "telemetry-prune-inferences": {
        "task": "telemetry.prune_inferences",
        "schedule": 3600.0,
        "options": {"expires": 3000},
    },
    "telemetry-prune": {"task": "telemetry.prune", "schedule": 600.0, "options": {"expires": 500}},
}
