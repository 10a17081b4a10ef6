"""Several endpoints of one model, each on a fake target of its own, on one clock: the stage for stories in waves."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apps.kernel.clock import set_clock
from apps.registry.models import ModelVersion
from apps.rollouts.domain.plan import Step, StepKind
from apps.rollouts.domain.sequence import SEQUENCE_TERMINAL
from apps.rollouts.domain.waves import WaveAsked
from apps.rollouts.models import Rollout, RolloutSequence, SequenceMember, SequenceTransition
from apps.rollouts.selectors import sequence_get, sequence_transitions_of
from apps.rollouts.services.sequence_tick import sequences_due
from apps.rollouts.services.sequences import sequence_command, sequence_plan, sequence_start
from apps.rollouts.services.tick import tick_due
from apps.targets.drivers.fake import WORLDS, FakeWorld
from apps.targets.models import Target
from apps.targets.services.connect import endpoint_create, target_create, target_probe
from apps.targets.services.observe import endpoint_observe
from apps.targets.services.reconcile import endpoint_reconcile
from tests.fakes.clock import FakeClock
from tests.fakes.registry import make_version
from tests.fakes.targets import ALICE, FakeSite
from tests.scenarios.stage import Stage

MODEL = "late-arrival"
STEP = 5
"""Seconds between two looks."""
NEW, OLD = "v1-1-0", "v1-0-0"
QUICK = (Step.full(),)
PATIENT = (Step(StepKind.SET_WEIGHT, weight_bp=5000), Step(StepKind.PAUSE, seconds=40), Step.full())
"""Short, because what happens inside one rollout is told elsewhere."""
NAMES = ("alpha", "bravo", "charlie")


@dataclass
class Fleet:
    """``stages`` by endpoint name; all tell the same time."""

    stages: dict[str, Stage]
    clock: FakeClock

    def version(self, semver: str = "1.1.0") -> ModelVersion:
        return next(iter(self.stages.values())).version(semver)

    def start(self, version: ModelVersion, *waves: WaveAsked, note: str = "", **options: Any) -> RolloutSequence:
        """Without guardrails unless they are asked for: nobody calls."""
        options = {"steps": QUICK, "guardrails": (), "strategy": "canary", "profile": "fast", **options}
        planned = sequence_plan(actor=ALICE, version_id=version.pk, waves=waves, **options)
        return sequence_start(actor=ALICE, planned=planned, note=note)

    def breaks_at(self, name: str) -> None:
        """From now on the new version's process gives up at this endpoint; ``heals`` ends it."""
        self.stages[name].site.world.faults.crash_loop.add(NEW)

    def heals(self) -> None:
        for stage in self.stages.values():
            stage.site.world.faults.crash_loop.clear()

    def command(self, sequence: RolloutSequence, command: str, **options: Any) -> RolloutSequence:
        seen = {"expected_revision": sequence_get(sequence.pk).revision, "reason": "the story wants it"}
        return sequence_command(actor=ALICE, sequence_id=sequence.pk, command=command, **{**seen, **options})

    def step(self) -> None:
        """Some seconds pass; callers call everywhere, then the worker looks at rollouts and at sequences."""
        self.clock.forward(STEP)
        for stage in self.stages.values():
            stage.call()
        tick_due("worker-1")
        sequences_due()

    def run(self, seconds: int, sequence: RolloutSequence | None = None, *, until: str = "") -> int:
        """Let time pass; stops early when ``sequence`` reaches the phase ``until``, or without one its end."""
        for passed in range(STEP, seconds + STEP, STEP):
            self.step()
            if sequence is not None:
                phase = sequence_get(sequence.pk).phase
                if phase == until or (not until and phase in SEQUENCE_TERMINAL):
                    return passed
        return seconds

    def run_until_member(self, sequence: RolloutSequence, name: str, phase: str, seconds: int = 200) -> None:
        for _ in range(0, seconds, STEP):
            self.step()
            found = self.rollout(sequence, name)
            if found is not None and found.phase == phase:
                return
        raise AssertionError(f"{name} did not become {phase}: {sequence_get(sequence.pk).reason}")

    def member(self, sequence: RolloutSequence, name: str) -> SequenceMember:
        rows = SequenceMember.objects.select_related("rollout", "back", "endpoint__stable_version")
        return rows.get(sequence=sequence, endpoint__name=name)

    def rollout(self, sequence: RolloutSequence, name: str) -> Rollout | None:
        return self.member(sequence, name).rollout

    def phases(self, sequence: RolloutSequence) -> dict[str, str]:
        """Endpoint -> the phase of its rollout, "" before the first."""
        rows = SequenceMember.objects.filter(sequence=sequence).values_list("endpoint__name", "rollout__phase")
        return {name: phase or "" for name, phase in rows}

    def serves(self) -> dict[str, str]:
        """Endpoint -> the version that gets all traffic there; several where traffic is split."""
        return {name: "+".join(sorted(stage.weights())) for name, stage in self.stages.items()}

    def history(self, sequence: RolloutSequence) -> list[SequenceTransition]:
        return list(sequence_transitions_of(sequence.pk))

    def actions(self, sequence: RolloutSequence) -> list[str]:
        return [row.action for row in self.history(sequence)]


def waves(*groups: str, bake: int | None = 0) -> list[WaveAsked]:
    """ "alpha", "bravo charlie": two waves, with the same bake after each."""
    return [WaveAsked(tuple(group.split()), bake) for group in groups]


@contextmanager
def open_fleet(folder: Path, names: tuple[str, ...] = NAMES, *, rate: int = 0) -> Iterator[Fleet]:
    """Endpoints that serve 1.0.0 and are each called ``rate`` times every look; without callers their targets let a
    rollout go on."""
    clock = FakeClock()
    stable = make_version(MODEL, "1.0.0")
    with set_clock(clock):
        stages = {name: Stage(_site(name, stable, clock), folder, rate) for name in names}
        stages[names[0]]._on_disk(stable)
        for stage in stages.values():
            target_probe(target_id=stage.site.target.pk)
            endpoint_reconcile(stage.site.endpoint.pk, holder="fleet")
            endpoint_observe(stage.site.endpoint.pk)
            stage.site.reload()
        for _ in range(3):
            clock.forward(1)
            for stage in stages.values():
                stage.call()
        yield Fleet(stages, clock)


def _site(name: str, stable: ModelVersion, clock: FakeClock) -> FakeSite:
    key = uuid.uuid4().hex
    WORLDS[key] = world = FakeWorld(clock=clock)
    target = target_create(
        actor=ALICE, name=f"at-{name}", kind="fake", environment="development", connection={"world": key}
    )
    Target.objects.filter(pk=target.pk).update(no_traffic_policy="skip")
    endpoint = endpoint_create(
        actor=ALICE, name=name, target_id=target.pk, model_id=stable.model_id, version_id=stable.pk
    )
    return FakeSite(target, endpoint, stable, world, clock)
