"""The Celery application: ``celery -A worker.app worker -Q rollouts,telemetry``, ``… -Q analysis`` and ``… beat``."""

from __future__ import annotations

import os
from typing import Any

# Celery looks for the name of Django's settings in the environment when the application is made, as manage.py does
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")

import structlog
from celery import Celery, signals
from django.conf import settings

from worker.config import celery_config

app = Celery("pilothouse")
app.conf.update(celery_config(settings.PILOTHOUSE_REDIS_URL))
app.autodiscover_tasks()


def set_up_django() -> None:
    """For programs beside Celery; a Celery worker is set up by Celery."""
    import django

    from apps.kernel.logs import configure

    django.setup()
    configure()


@signals.setup_logging.connect(weak=False)  # type: ignore[untyped-decorator]
def _logging(**_: Any) -> None:
    """Also tells Celery to leave the root logger alone."""
    from apps.kernel.logs import configure

    configure()


@signals.task_prerun.connect(weak=False)  # type: ignore[untyped-decorator]
def _bind(task_id: str, task: Any, kwargs: Any, **_: Any) -> None:
    """Every line a task logs says which task, and which request it was asked for in."""
    request_id = getattr(task.request, "request_id", None) or (kwargs or {}).get("request_id") or task_id
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(task=task.name, task_id=task_id, request_id=request_id)


@signals.task_postrun.connect(weak=False)  # type: ignore[untyped-decorator]
def _unbind(**_: Any) -> None:
    structlog.contextvars.clear_contextvars()
