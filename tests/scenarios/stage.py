"""A stage for given/when/then stories: the fake target, a fake clock, real PostgreSQL, callers by the split."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apps.kernel.clock import set_clock
from apps.kernel.stats.histogram import ExponentialHistogram
from apps.registry.drivers.artifacts import digest_and_size
from apps.registry.models import ModelVersion
from apps.rollouts.domain.machine import TERMINAL
from apps.rollouts.models import Rollout, Transition
from apps.rollouts.selectors import rollout_get, transitions_of
from apps.rollouts.services.lifecycle import rollout_command, rollout_start
from apps.rollouts.services.tick import tick_due
from apps.targets.domain.plan import Route
from apps.targets.services.connect import target_probe
from apps.targets.services.observe import endpoint_observe
from apps.targets.services.reconcile import endpoint_reconcile
from apps.telemetry.domain.batch import SlotBatch, SlotDelta
from apps.telemetry.services.slots import slots_add
from tests.fakes.registry import make_version
from tests.fakes.targets import ALICE, FakeSite, make_site

FULL = 10_000


@dataclass(frozen=True)
class Manner:
    """How a version answers: of every hundred requests this many fail or are slow."""

    errors_percent: int = 0
    slow_percent: int = 0
    is_silent: bool = False


@dataclass
class Stage:
    """``rate`` requests per second reach the gateway; who answers follows from the route in force there. Where it knows
    arms, each arm's callers send ``assigned_bp`` of as many beside them."""

    site: FakeSite
    folder: Path
    rate: int = 200
    assigned_bp: int = 2500
    manners: dict[str, Manner] = field(default_factory=dict)
    _seq: int = 0
    _served: dict[str, int] = field(default_factory=dict)

    def version(self, semver: str, **facts: Any) -> ModelVersion:
        """A registered version whose artifact really lies on the disk."""
        version = make_version(self.site.endpoint.model.name, semver)
        return self._on_disk(version, **facts)

    def _on_disk(self, version: ModelVersion, **facts: Any) -> ModelVersion:
        artifact = self.folder / version.semver
        artifact.mkdir()
        (artifact / "MLmodel").write_text(f"flavors: {{}} # {version.semver}\n")
        digest, _ = digest_and_size(artifact)
        ModelVersion.objects.filter(pk=version.pk).update(source_uri=artifact.as_uri(), artifact_digest=digest, **facts)
        version.refresh_from_db()
        return version

    def start(self, version: ModelVersion, strategy: str = "canary", **options: Any) -> Rollout:
        options = {"profile": "fast", **options}
        return rollout_start(
            actor=ALICE, endpoint_id=self.site.endpoint.pk, version_id=version.pk, strategy=strategy, **options
        )

    def command(self, rollout: Rollout, command: str, *, is_fresh: bool = True, **options: Any) -> Rollout:
        """With what the caller sees now, unless the options say what was seen."""
        if is_fresh and command not in {"abort", "roll_back"}:
            now_there = rollout_get(rollout.pk)
            seen = {"expected_revision": now_there.revision, "expected_step": now_there.step}
            options = {**seen, "reason": "the story wants it", **options}
        return rollout_command(actor=ALICE, rollout_id=rollout.pk, command=command, **options)

    def run(self, seconds: int, *, until: str = "", rollout: Rollout | None = None, holder: str = "worker-1") -> int:
        """Let time pass, second by second: callers call, serving reports, the worker ticks. Returns seconds passed.

        Stops early when ``rollout`` has reached the phase ``until`` (or, without one, any terminal phase).
        """
        for passed in range(1, seconds + 1):
            self.site.clock.forward(1)
            self.call()
            tick_due(holder)
            if rollout is not None:
                phase = Rollout.objects.values_list("phase", flat=True).get(pk=rollout.pk)
                if phase == until or (not until and phase in TERMINAL):
                    return passed
        return seconds

    def call(self) -> None:
        """One second of requests, answered by whom the gateway's route says, reported as serving reports them."""
        route = self.route()
        if route is None or not self.rate:
            return
        batches = []
        for key, weight in route.weights_bp.items():
            count = self._share(key, weight)
            batches += self._report(key, "weighted", route.period, count)
        for value, key in route.arms.items():
            batches += self._report(key, "assigned", route.period, self._share(value, self.assigned_bp))
        if route.mirror is not None:
            copies = self.rate * route.mirror.fraction_bp // FULL
            batches += self._report(route.mirror.variant, "mirrored", route.period, copies)
        slots_add(batches)

    def _share(self, key: str, weight_bp: int) -> int:
        """Whole requests, the remainder carried over to the next second."""
        owed = self._served.get(key, 0) + self.rate * weight_bp
        self._served[key] = owed % FULL
        return owed // FULL

    def _report(self, key: str, route: str, period: int, count: int) -> list[SlotBatch]:
        manner = self.manners.get(key, Manner())
        if count == 0 or manner.is_silent:
            return []
        self._seq += 1
        # the bad ones are spread evenly over all seconds, whatever the rate
        bad = self._part(f"{key} errors", count * manner.errors_percent)
        slow = min(count - bad, self._part(f"{key} slow", count * manner.slow_percent))
        latency = ExponentialHistogram.from_values([0.9] * slow + [0.02] * (count - slow))
        at = int(self.site.clock().timestamp()) // 10 * 10
        delta = SlotDelta(at, route, period, count, count - bad, 0, bad, 0, 0, latency)
        name = self.site.endpoint.name  # in the source too: two endpoints that count alike are no repeat of each other
        return [SlotBatch(f"{name}/{key}/{route}/0", self._seq, name, key, (delta,))]

    def _part(self, what: str, hundredths: int) -> int:
        owed = self._served.get(what, 0) + hundredths
        self._served[what] = owed % 100
        return owed // 100

    def route(self) -> Route | None:
        held = self.site.world._held.get(self.site.endpoint.name)
        if held is None or held.plan is None:
            return None
        from apps.targets.drivers.fake import _advance

        _advance(self.site.world, held, self.site.clock())
        return held.route

    def weights(self) -> dict[str, int]:
        """What the gateway really does."""
        route = self.route()
        return {key: weight for key, weight in route.weights_bp.items() if weight} if route else {}

    def running(self) -> list[str]:
        """The variants that the target last reported."""
        observed = self.site.reload().observed
        assert observed is not None
        return [variant["key"] for variant in observed["variants"]]

    def history(self, rollout: Rollout) -> list[Transition]:
        return list(transitions_of(rollout.pk))

    def phases(self, rollout: Rollout) -> list[str]:
        return [transition.to_phase for transition in self.history(rollout)]

    def actions(self, rollout: Rollout) -> list[str]:
        return [transition.action for transition in self.history(rollout)]

    def reload(self, rollout: Rollout) -> Rollout:
        return rollout_get(rollout.pk)


@contextmanager
def open_stage(folder: Path, *, rate: int = 200, environment: str = "development") -> Iterator[Stage]:
    """An endpoint that serves 1.0.0 and is called ``rate`` times a second, at a standing clock."""
    site = make_site(environment=environment)
    with set_clock(site.clock):
        stage = Stage(site, folder, rate)
        stage._on_disk(site.stable)
        target_probe(target_id=site.target.pk)
        endpoint_reconcile(site.endpoint.pk, holder="stage")
        endpoint_observe(site.endpoint.pk)
        site.reload()
        for _ in range(3):
            site.clock.forward(1)
            stage.call()
        yield stage
