"""What every driver must do. A driver's test module inherits ``DriverConformance`` and provides a ``subject``."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from apps.targets.domain.driver import Driver, Observed, PlanRefused, ProbeReport, StaleEpoch, Support, VariantState
from apps.targets.domain.observed import divergence, observed_from_json, observed_to_json
from apps.targets.domain.plan import FULL_BP, EndpointPlan, Mirror, Role, Route, VariantSpec


@dataclass
class Subject:
    """A driver and how to live with it.

    ``pass_time`` lets a little time go by at the target; ``patience`` is how often before a state that does
    not come counts as missing. ``broken_digest`` is one that can never become ready.
    """

    driver: Driver
    artifact_uri: str
    artifact_digest: str
    broken_digest: str
    pass_time: Callable[[], None]
    patience: int = 100
    endpoint: str = field(default_factory=lambda: f"ep-{uuid.uuid4().hex[:8]}")

    def variant(self, key: str, role: Role = Role.STABLE, *, is_broken: bool = False) -> VariantSpec:
        digest = self.broken_digest if is_broken else self.artifact_digest
        return VariantSpec(key, "1.0.0", "twice", role, self.artifact_uri, digest)

    def plan(
        self, generation: int, weights: dict[str, int], *variants: VariantSpec, mirror: Mirror | None = None
    ) -> EndpointPlan:
        return EndpointPlan(self.endpoint, generation, variants, Route(generation, weights, mirror))

    def wait(self, condition: Callable[[Observed], bool]) -> Observed:
        seen: Observed | None = None
        for _ in range(self.patience):
            seen = self.driver.observe(self.endpoint)
            if seen is not None and condition(seen):
                return seen
            self.pass_time()
        raise AssertionError(f"it never came to that; last seen: {seen}")

    def apply(self, plan: EndpointPlan, *, epoch: int = 1) -> Observed:
        self.driver.apply(plan, epoch=epoch)
        return self.wait(lambda seen: seen.applied_generation == plan.generation)


class DriverConformance:
    """One suite over every implementation."""

    @pytest.fixture(autouse=True)
    def _tidy(self, subject: Subject) -> object:
        yield
        subject.driver.remove(subject.endpoint, epoch=1_000)

    def test_an_endpoint_never_heard_of_is_observed_as_none(self, subject: Subject) -> None:
        assert subject.driver.observe(subject.endpoint) is None

    def test_removing_what_is_not_there_is_no_error(self, subject: Subject) -> None:
        subject.driver.remove(subject.endpoint, epoch=1)

    def test_a_probe_says_what_the_target_can_do(self, subject: Subject) -> None:
        report = subject.driver.probe()
        assert isinstance(report, ProbeReport)
        assert report.version
        assert report.capabilities.weights in set(Support)

    def test_a_plan_becomes_true_and_is_observed_as_desired(self, subject: Subject) -> None:
        plan = subject.plan(1, {"a": FULL_BP}, subject.variant("a"))
        seen = subject.apply(plan)
        assert (seen.endpoint, seen.epoch, seen.generation) == (subject.endpoint, 1, 1)
        assert seen.route is not None
        assert (seen.route.period, dict(seen.route.weights_bp)) == (1, {"a": FULL_BP})
        variant = seen.variant("a")
        assert variant is not None
        assert variant.is_ready
        assert variant.artifact_digest == subject.artifact_digest
        assert divergence(plan, seen) == ""
        assert observed_from_json(observed_to_json(seen)) == seen

    def test_applying_the_same_again_changes_nothing(self, subject: Subject) -> None:
        plan = subject.plan(1, {"a": FULL_BP}, subject.variant("a"))
        first = subject.apply(plan)
        subject.driver.apply(plan, epoch=1)
        second = subject.apply(plan)
        assert first.route == second.route
        assert [variant.restarts for variant in second.variants] == [0]

    def test_weights_and_mirror_move_and_keep_their_period(self, subject: Subject) -> None:
        a, b = subject.variant("a"), subject.variant("b", Role.CANDIDATE)
        subject.apply(subject.plan(1, {"a": FULL_BP}, a, b))
        wanted = subject.plan(2, {"a": 9_500, "b": 500}, a, b, mirror=Mirror("b", 2_500))
        seen = subject.apply(wanted)
        assert seen.route is not None
        assert (seen.route.period, dict(seen.route.weights_bp)) == (2, {"a": 9_500, "b": 500})
        assert seen.route.mirror == Mirror("b", 2_500)
        assert divergence(wanted, seen) == ""

    def test_a_variant_that_is_no_longer_wanted_leaves(self, subject: Subject) -> None:
        a, b = subject.variant("a"), subject.variant("b", Role.CANDIDATE)
        subject.apply(subject.plan(1, {"a": 5_000, "b": 5_000}, a, b))
        subject.apply(subject.plan(2, {"a": FULL_BP}, a))
        gone = (None, VariantState.STOPPING)
        seen = subject.wait(lambda seen: (found := seen.variant("b")) is None or found.state in gone)
        assert seen.variant("a") is not None

    def test_a_lower_epoch_is_refused_even_with_a_higher_generation(self, subject: Subject) -> None:
        a = subject.variant("a")
        subject.driver.apply(subject.plan(1, {"a": FULL_BP}, a), epoch=5)
        with pytest.raises(StaleEpoch) as refused:
            subject.driver.apply(subject.plan(9, {"a": FULL_BP}, a), epoch=4)
        assert not refused.value.is_retryable
        seen = subject.driver.observe(subject.endpoint)
        assert seen is not None
        assert (seen.epoch, seen.generation) == (5, 1)

    def test_a_lower_generation_under_the_same_epoch_is_refused(self, subject: Subject) -> None:
        a = subject.variant("a")
        subject.driver.apply(subject.plan(3, {"a": FULL_BP}, a), epoch=5)
        with pytest.raises(StaleEpoch):
            subject.driver.apply(subject.plan(2, {"a": FULL_BP}, a), epoch=5)

    def test_another_plan_under_the_same_epoch_and_generation_is_refused(self, subject: Subject) -> None:
        a, b = subject.variant("a"), subject.variant("b", Role.CANDIDATE)
        subject.driver.apply(subject.plan(1, {"a": FULL_BP}, a, b), epoch=5)
        with pytest.raises(PlanRefused):
            subject.driver.apply(subject.plan(1, {"a": 5_000, "b": 5_000}, a, b), epoch=5)

    def test_a_higher_epoch_may_bring_a_lower_generation(self, subject: Subject) -> None:
        """A control plane restored from a backup must be able to go on."""
        a = subject.variant("a")
        subject.driver.apply(subject.plan(9, {"a": FULL_BP}, a), epoch=5)
        seen = subject.apply(subject.plan(3, {"a": FULL_BP}, a), epoch=6)
        assert (seen.epoch, seen.generation) == (6, 3)

    def test_removal_is_fenced_and_remembers_its_epoch(self, subject: Subject) -> None:
        a = subject.variant("a")
        subject.driver.apply(subject.plan(1, {"a": FULL_BP}, a), epoch=5)
        with pytest.raises(StaleEpoch):
            subject.driver.remove(subject.endpoint, epoch=4)
        subject.driver.remove(subject.endpoint, epoch=6)
        for _ in range(subject.patience):
            if subject.driver.observe(subject.endpoint) is None:
                break
            subject.pass_time()
        assert subject.driver.observe(subject.endpoint) is None
        with pytest.raises(StaleEpoch):
            subject.driver.apply(subject.plan(2, {"a": FULL_BP}, a), epoch=5)

    def test_no_weight_goes_to_a_variant_that_was_never_ready(self, subject: Subject) -> None:
        a, broken = subject.variant("a"), subject.variant("b", Role.CANDIDATE, is_broken=True)
        subject.apply(subject.plan(1, {"a": FULL_BP}, a))
        subject.driver.apply(subject.plan(2, {"a": 5_000, "b": 5_000}, a, broken), epoch=1)
        seen = subject.wait(lambda seen: bool(seen.generation == 2 and seen.route_error))
        assert seen.route is not None
        assert dict(seen.route.weights_bp) == {"a": FULL_BP}
        assert seen.applied_generation < 2
        back = subject.apply(subject.plan(3, {"a": FULL_BP}, a))
        assert back.route_error == ""

    def test_a_variant_that_comes_back_with_another_artifact_is_a_new_process(self, subject: Subject) -> None:
        a, b = subject.variant("a"), subject.variant("b", Role.CANDIDATE)
        subject.apply(subject.plan(1, {"a": FULL_BP}, a, b))
        broken = replace(b, artifact_digest=subject.broken_digest)
        subject.driver.apply(subject.plan(2, {"a": FULL_BP}, a, broken), epoch=1)
        seen = subject.wait(
            lambda seen: (
                (found := seen.variant("b")) is not None
                and found.artifact_digest == subject.broken_digest
                and not found.is_ready
            )
        )
        assert seen.variant("a") is not None
