"""Names that ring must be doors that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from worker.app import app
from worker.config import QUEUES, TASK_SECONDS, VISIBILITY_SECONDS
from worker.schedule import BEAT_SCHEDULE

APPS = Path(__file__).resolve().parents[2] / "apps"
ENQUEUED = sorted(
    {
        name
        for path in APPS.rglob("*.py")
        for name in re.findall(r'enqueue_task\(\s*"([^"]+)"', path.read_text(encoding="utf-8"))
    }
)


@pytest.fixture(scope="module")
def registered() -> set[str]:
    app.autodiscover_tasks(force=True)
    return set(app.tasks)


@pytest.mark.parametrize("name", sorted(entry["task"] for entry in BEAT_SCHEDULE.values()))
def test_a_scheduled_task_is_registered(name: str, registered: set[str]) -> None:
    assert name in registered


@pytest.mark.parametrize("name", ENQUEUED)
def test_an_enqueued_task_is_registered(name: str, registered: set[str]) -> None:
    assert name in registered


def test_there_are_enqueued_names_to_check() -> None:
    assert "targets.reconcile" in ENQUEUED


@pytest.mark.parametrize("entry", BEAT_SCHEDULE.values(), ids=lambda entry: entry["task"])
def test_a_doorbell_expires_so_that_a_backlog_never_piles_up(entry: dict[str, object]) -> None:
    options = entry["options"]
    assert isinstance(options, dict)
    assert 0 < options["expires"] <= max(5, float(str(entry["schedule"])))


def test_our_own_tasks_go_to_a_queue_that_workers_read(registered: set[str]) -> None:
    ours = [name for name in registered if not name.startswith("celery.")]
    assert ours
    assert {app.amqp.router.route({}, name)["queue"].name for name in ours} <= set(QUEUES)


def test_a_task_ends_before_its_message_is_handed_out_again() -> None:
    assert app.conf.task_soft_time_limit < app.conf.task_time_limit == TASK_SECONDS < VISIBILITY_SECONDS
    assert app.conf.broker_transport_options["visibility_timeout"] == VISIBILITY_SECONDS
