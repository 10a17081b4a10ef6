"""The whole doorbell: a change commits, the observer rings, a Celery worker makes the target want it."""

from __future__ import annotations

import signal
import uuid
from pathlib import Path

import pytest

from apps.targets.models import Endpoint
from apps.targets.selectors import target_get
from apps.targets.services.connect import endpoint_create, target_create
from tests.fakes.registry import make_version
from tests.fakes.targets import ALICE
from tests.worker.support import eventually, running, while_running

pytestmark = pytest.mark.django_db(transaction=True)
WORKER = ("-m", "celery", "-A", "worker.app", "worker", "-Q", "rollouts,telemetry,analysis", "-c", "1")


def test_a_change_reaches_its_target_through_real_processes(tmp_path: Path) -> None:
    with (
        running("-m", "worker.observer", log=tmp_path / "observer.log"),
        running(*WORKER, log=tmp_path / "worker.log") as worker,
    ):
        target = target_create(actor=ALICE, name="lab", kind="fake", connection={"world": uuid.uuid4().hex})
        version = make_version("late-arrival", "1.0.0")
        endpoint_id = endpoint_create(
            actor=ALICE,
            name="late-arrival",
            target_id=target.pk,
            model_id=version.model_id,
            version_id=version.pk,
        ).pk
        try:
            eventually(
                while_running(worker, lambda: Endpoint.objects.get(pk=endpoint_id).applied_generation == 1), seconds=90
            )
            eventually(lambda: target_get("lab").probed_at)
        except AssertionError:
            pytest.fail((tmp_path / "worker.log").read_text()[-3000:])
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0


def test_the_clock_rings_by_itself(tmp_path: Path) -> None:
    """No observer: the message is lost as far as the worker knows, and beat alone brings the change there."""
    beat = ("-m", "celery", "-A", "worker.app", "beat")
    with running(*WORKER, log=tmp_path / "worker.log") as worker, running(*beat, log=tmp_path / "beat.log"):
        target = target_create(actor=ALICE, name="lab", kind="fake", connection={"world": uuid.uuid4().hex})
        version = make_version("late-arrival", "1.0.0")
        endpoint_id = endpoint_create(
            actor=ALICE,
            name="late-arrival",
            target_id=target.pk,
            model_id=version.model_id,
            version_id=version.pk,
        ).pk
        try:
            eventually(
                while_running(worker, lambda: Endpoint.objects.get(pk=endpoint_id).applied_generation == 1), seconds=90
            )
        except AssertionError:
            pytest.fail((tmp_path / "worker.log").read_text()[-3000:] + (tmp_path / "beat.log").read_text()[-2000:])
