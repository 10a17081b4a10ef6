"""An endpoint that nobody calls, on a target that says: probe. The story's stage is gateway and serving at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from apps.kernel.models import OutboxEntry
from apps.kernel.stats.histogram import ExponentialHistogram
from apps.rollouts.domain.probing import PROBES
from apps.rollouts.models import Rollout
from apps.rollouts.services import probe
from apps.rollouts.tasks import rollouts_probe
from apps.telemetry.domain.batch import SlotBatch, SlotDelta
from apps.telemetry.services.slots import slots_add
from tests.scenarios.stage import Stage, open_stage

pytestmark = pytest.mark.django_db


class Gateway:
    """Answers at the fake's address as a gateway with serving behind it would, and reports what it answered."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.status, self.asked = stage, 200, 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert request.headers["x-pilothouse-probe"] == "1"
        key, route = request.headers["x-pilothouse-variant"], self.stage.route()
        assert route is not None
        self.asked += 1
        good, at = int(self.status == 200), int(self.stage.site.clock().timestamp()) // 10 * 10
        latency = ExponentialHistogram.from_values([0.02])
        delta = SlotDelta(at, "probe", route.period, 1, good, 0, 1 - good, 0, 0, latency)
        slots_add([SlotBatch(f"{key}/probe/0", self.asked, self.stage.site.endpoint.name, key, (delta,))])
        return httpx.Response(self.status, json={})


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with open_stage(tmp_path) as opened:
        target = opened.site.endpoint.target
        type(target).objects.filter(pk=target.pk).update(no_traffic_policy="probe")
        opened.run(60)
        opened.rate = 0
        opened.run(60)
        yield opened


@pytest.fixture
def gateway(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Gateway:
    made = Gateway(stage)
    monkeypatch.setattr(probe, "client", lambda: httpx.Client(mounts={"fake://": httpx.MockTransport(made)}))
    return made


def live(stage: Stage, rollout: Rollout, seconds: int) -> Rollout:
    """Time passes, and the tasks that are asked for are run, as a worker would."""
    for _ in range(seconds):
        stage.run(1)
        for entry in OutboxEntry.objects.filter(name="rollouts.probe"):
            rollouts_probe(**entry.payload)
            entry.delete()
        found = stage.reload(rollout)
        if found.finished_at is not None:
            return found
    return stage.reload(rollout)


def test_a_healthy_version_that_nobody_calls_is_promoted_on_answered_probes(stage: Stage, gateway: Gateway) -> None:
    rollout = live(stage, stage.start(stage.version("1.1.0")), 1_200)
    assert rollout.phase == "promoted", rollout.reason
    shifts = [row.reason for row in stage.history(rollout) if row.action == "Bake"]
    assert all("which prove health and not the split: not measured" in reason for reason in shifts)
    gate = next(row for row in stage.history(rollout) if row.from_phase == "gating")
    assert "error rate 0 % (0 of " in gate.reason
    taken = (rollout.finished_at - rollout.created_at).total_seconds()  # type: ignore[operator]
    assert gateway.asked <= PROBES * (taken / 5 + 10)


def test_a_version_that_fails_its_probes_is_rolled_back(stage: Stage, gateway: Gateway) -> None:
    gateway.status = 500
    rollout = live(stage, stage.start(stage.version("1.1.0")), 120)
    assert rollout.phase == "rolled_back"
    assert rollout.reason.startswith("error rate 100 %")


def test_without_an_answer_it_waits_and_says_for_what(stage: Stage) -> None:
    """Nobody listens at the address: nothing is proved, nothing goes on, and no other rollout is held up."""
    rollout = live(stage, stage.start(stage.version("1.1.0")), 120)
    assert (rollout.phase, rollout.weight_bp) == ("shifting", 500)
    assert "0 of 10 probe requests answered" in rollout.reason


def test_a_task_delivered_late_or_twice_after_the_end_asks_nobody(stage: Stage, gateway: Gateway) -> None:
    rollout = stage.start(stage.version("1.1.0"))
    stage.run(10)
    stage.command(rollout, "abort", reason="stop")
    assert rollouts_probe(rollout.pk) == 0
    assert gateway.asked == 0


def test_an_endpoint_that_is_called_is_not_probed(stage: Stage, gateway: Gateway) -> None:
    stage.rate = 200
    stage.run(5)
    rollout = live(stage, stage.start(stage.version("1.1.0")), 60)
    assert rollout.weight_bp > 500
    assert gateway.asked == 0
