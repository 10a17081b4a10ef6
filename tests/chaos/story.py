"""One canary on a real agent with real gateway: wanted by real workers, watched from outside while they are struck."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from agent.testing import RunningAgent
from apps.kernel.models import OutboxEntry
from apps.kernel.services.outbox import outbox_deliver
from apps.registry.drivers.artifacts import digest_and_size
from apps.registry.models import ModelVersion
from apps.rollouts.domain.machine import TERMINAL
from apps.rollouts.domain.plan import Step, StepKind
from apps.rollouts.models import Rollout, Transition
from apps.rollouts.services.lifecycle import rollout_start
from apps.targets.models import Endpoint, TrafficPolicy
from apps.targets.selectors import plan_of
from apps.targets.services.connect import endpoint_create, target_create, target_probe
from tests.chaos.invariants import broken_invariants
from tests.chaos.workers import Workers
from tests.fakes.registry import make_version
from tests.fakes.targets import ALICE

WEIGHTS = (500, 5_000, 10_000)
STABLE, CANDIDATE = "v1-0-0", "v1-1-0"
STRIDE_SECONDS = 5.0
"""How far the workers' clock goes ahead in one look, while nothing but time is waited for: no look is late by it."""


@dataclass(frozen=True)
class Ending:
    """What an interrupted rollout must have in common with an uninterrupted one."""

    phase: str
    moves: tuple[tuple[str, str, str, int, int, int], ...]
    stable: str
    wanted: tuple[tuple[str, int], ...]
    routed: tuple[tuple[str, int], ...]
    running: tuple[str, ...]
    generation: int
    applied_generation: int
    told: tuple[int, ...]


@dataclass
class Story:
    """``routes`` are the weights that the gateway had at each look."""

    agent: RunningAgent
    workers: Workers
    endpoint: Endpoint
    rollout: Rollout
    routes: list[dict[str, int]] = field(default_factory=list)

    def go_on(self, until: Callable[[], object], *, seconds: float = 90.0) -> None:
        """Look again and again, with time going fast wherever only time is missing, until ``until`` holds."""
        deadline = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < deadline, self._where()
            if self._look():
                self.workers.forward(STRIDE_SECONDS)
            time.sleep(0.03)

    def _look(self) -> bool:
        """Check what the target does at this moment; True when nothing is under way there."""
        seen = self._seen()
        if seen is None:
            return False
        weights = {key: weight for key, weight in (seen["route"] or {"weights_bp": {}})["weights_bp"].items() if weight}
        if weights:
            assert sum(weights.values()) == 10_000, weights
            unready = {variant["key"] for variant in seen["variants"] if variant["ready_replicas"] == 0}
            assert not unready & set(weights), f"{weights} while {unready} is not ready"
            if not self.routes or self.routes[-1] != weights:
                self.routes.append(weights)
        self.endpoint.refresh_from_db()
        is_quiet = seen["applied_generation"] == self.endpoint.generation == self.endpoint.applied_generation
        return is_quiet and all(variant["state"] == "ready" for variant in seen["variants"])

    def row(self) -> Rollout:
        self.rollout.refresh_from_db()
        return self.rollout

    @property
    def weight_bp(self) -> int:
        return self.row().weight_bp

    @property
    def has_ended(self) -> bool:
        return self.row().phase in TERMINAL

    @property
    def is_settled(self) -> bool:
        """Ended, and the target has done all that was wanted: the old version is gone."""
        seen = self._seen()
        return (
            seen is not None
            and self.has_ended
            and self._look()
            and [one["key"] for one in seen["variants"]] == [CANDIDATE]
        )

    def _seen(self) -> dict[str, Any] | None:
        """What the target says of the endpoint; None before it has heard of it."""
        answer = self.agent.api.get(f"/v1/endpoints/{self.endpoint.name}")
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        answer.raise_for_status()
        return dict(answer.json())

    def told(self) -> list[tuple[int, int]]:
        """Every (epoch, generation) that the target accepted, in its order, from the agent's own log."""
        lines = (line for line in self.agent.log.read_text().splitlines() if line.startswith("{"))
        events = (json.loads(line) for line in lines)
        return [
            (event["epoch"], event["generation"])
            for event in events
            if event.get("event") == "told" and event["endpoint"] == self.endpoint.name
        ]

    def ending(self) -> Ending:
        rollout, seen = self.row(), self.agent.observed(self.endpoint.name)
        self.endpoint.refresh_from_db()
        plan, stable = plan_of(self.endpoint), self.endpoint.stable_version
        assert plan is not None
        assert stable is not None
        moves = Transition.objects.filter(rollout=rollout).order_by("revision")
        fields = ("action", "from_phase", "to_phase", "step", "weight_bp", "generation")
        return Ending(
            phase=rollout.phase,
            moves=tuple(moves.values_list(*fields)),
            stable=stable.semver,
            wanted=tuple(sorted(plan.route.weights_bp.items())),
            routed=tuple(sorted(seen["route"]["weights_bp"].items())),
            running=tuple(variant["key"] for variant in seen["variants"]),
            generation=self.endpoint.generation,
            applied_generation=self.endpoint.applied_generation,
            told=tuple(sorted({generation for _, generation in self.told()})),
        )

    def check(self) -> None:
        """The invariants, whatever was done to the workers."""
        assert broken_invariants() == []
        shares = [weights.get(CANDIDATE, 0) for weights in self.routes]
        assert shares == sorted(shares), f"traffic went backwards: {self.routes}"
        told = self.told()
        assert told == sorted(told), f"the target took an older plan: {told}"
        assert [generation for _, generation in told] == sorted(generation for _, generation in told)
        self._drain()

    def _drain(self) -> None:
        rung: list[str] = []

        def ring(name: str, payload: object) -> None:
            rung.append(name)

        while outbox_deliver({"task": ring, "live": ring}):
            pass
        assert OutboxEntry.objects.count() == 0
        assert "rollouts.tick" in rung

    def _where(self) -> str:
        rollout = self.row()
        logs = "\n".join(f"{worker.base.name}: {worker.log[-1500:]}" for worker in self.workers.started)
        return f"{rollout.phase} at {rollout.weight_bp}: {rollout.reason}\n{self._seen()}\n{logs}"

    def close(self) -> None:
        """End the workers, then the processes at the target."""
        self.workers.end()
        removed = self.agent.api.delete(f"/v1/endpoints/{self.endpoint.name}", params={"epoch": 1_000_000})
        assert removed.status_code == httpx.codes.OK, removed.text


def open_story(agent: RunningAgent, workers: Workers, folder: Path) -> Story:
    """An endpoint that serves 1.0.0 at a real agent, and a canary of 1.1.0 that nobody has looked at yet.

    Nobody calls it and the target's policy says that this holds nothing up: what crashes do to the order of things is
    the question here, and traffic has its own tests on the whole product.
    """
    name = f"crash-{uuid.uuid4().hex[:8]}"
    workers.begin(folder / "workers")
    target = target_create(
        actor=ALICE,
        name=name,
        kind="local",
        connection={"url": agent.url, "token_file": str(agent.token_file)},
        no_traffic_policy=TrafficPolicy.SKIP,
    )
    assert target_probe(target_id=target.pk) is not None
    stable, candidate = _version(name, "1.0.0", folder), _version(name, "1.1.0", folder)
    endpoint = endpoint_create(
        actor=ALICE, name=name, target_id=target.pk, model_id=stable.model_id, version_id=stable.pk
    )
    rollout = rollout_start(
        actor=ALICE,
        endpoint_id=endpoint.pk,
        version_id=candidate.pk,
        strategy="canary",
        profile="fast",
        steps=[Step(StepKind.SET_WEIGHT, weight_bp=weight) for weight in WEIGHTS],
        guardrails=(),
    )
    endpoint.refresh_from_db()
    return Story(agent, workers, endpoint, rollout)


def _version(model: str, semver: str, folder: Path) -> ModelVersion:
    version = make_version(model, semver)
    artifact = folder / semver
    artifact.mkdir()
    (artifact / "MLmodel").write_text(f"flavors: {{}} # {semver}\n")
    digest, _ = digest_and_size(artifact)
    ModelVersion.objects.filter(pk=version.pk).update(source_uri=artifact.as_uri(), artifact_digest=digest)
    version.refresh_from_db()
    return version
