"""Celery's settings, made from the control plane's."""

from __future__ import annotations

from typing import Any

from worker.schedule import BEAT_SCHEDULE

TASK_SECONDS = 90  # hard limit of one task; must stay below VISIBILITY_SECONDS
VISIBILITY_SECONDS = 120  # after this long without an ack the broker hands a message out again
QUEUES = ("rollouts", "telemetry", "analysis")
ROUTES: dict[str, dict[str, str]] = {
    # waits for answers of a candidate that may hang: never in the queue of the ticks
    "rollouts.probe": {"queue": "analysis"},
    # reads artifacts and asks targets before a member begins
    "rollouts.sequence_tick": {"queue": "analysis"},
    "rollouts.sequences_due": {"queue": "analysis"},
    "rollouts.*": {"queue": "rollouts"},
    # reads artifacts and asks clusters: not in the way of ticks
    "targets.image_build": {"queue": "analysis"},
    "targets.image_builds_due": {"queue": "analysis"},
    "targets.*": {"queue": "rollouts"},
    "telemetry.*": {"queue": "telemetry"},
    "slo.*": {"queue": "telemetry"},
    # long sums and readouts; what watches over them rings elsewhere, or a stuck queue would say nothing
    "experiments.readout": {"queue": "analysis"},
    "experiments.sum_due": {"queue": "analysis"},
    "experiments.study": {"queue": "analysis"},
    "experiments.raw_drop_due": {"queue": "analysis"},
    "experiments.*": {"queue": "rollouts"},
    "accounts.*": {"queue": "analysis"},
    # that the queue of the analyses is stuck must still reach somebody
    "alerts.notice": {"queue": "telemetry"},
    "alerts.notices_due": {"queue": "telemetry"},
    "alerts.remind": {"queue": "telemetry"},
    "alerts.sources": {"queue": "telemetry"},
    "alerts.*": {"queue": "analysis"},
    "audit.*": {"queue": "analysis"},
    "registry.*": {"queue": "analysis"},
    "reviews.*": {"queue": "analysis"},
    "analysis.*": {"queue": "analysis"},
}
"""The first pattern that fits, in this order."""


def celery_config(redis_url: str) -> dict[str, Any]:
    """Lost, repeated and late messages are normal: PostgreSQL says what is to do, a message only rings.

    acks_late with reject_on_worker_lost: a killed worker's message comes back (after VISIBILITY_SECONDS at the latest;
    looked for every 5 s, by every worker: unacked_restore_throttle 1).
    """
    return {
        "broker_url": redis_url,
        "result_backend": None,
        "task_ignore_result": True,
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_prefetch_multiplier": 1,
        "broker_transport_options": {
            "visibility_timeout": VISIBILITY_SECONDS,
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            "socket_timeout": 5.0,
            "socket_connect_timeout": 2.0,
            "socket_keepalive": True,
            "health_check_interval": 15,
        },
        "broker_connection_retry_on_startup": True,
        "task_time_limit": TASK_SECONDS,
        "task_soft_time_limit": TASK_SECONDS - 15,
        "task_default_queue": "rollouts",
        "task_create_missing_queues": True,
        "task_routes": ROUTES,
        "task_serializer": "json",
        "accept_content": ["json"],
        "result_serializer": "json",
        "timezone": "UTC",
        "enable_utc": True,
        "beat_schedule": BEAT_SCHEDULE,
        # the schedule lives in memory: every entry is a doorbell, so a restart may ring early
        "beat_scheduler": "celery.beat:Scheduler",
        "beat_max_loop_interval": 1,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
    }
