"""The fake driver keeps the promises of a real one, and breaks where it is told to."""

from __future__ import annotations

import uuid

import pytest

from apps.targets.domain.driver import PlanRefused, TargetUnreachable, VariantState
from apps.targets.domain.plan import FULL_BP
from apps.targets.drivers.fake import WORLDS, FakeDriver, FakeWorld
from tests.fakes.clock import FakeClock
from tests.targets.conformance import DriverConformance, Subject

BROKEN = "sha256:" + "0" * 64


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def world(clock: FakeClock) -> FakeWorld:
    world = FakeWorld(ready_seconds=3, route_seconds=1, clock=clock)
    world.faults.broken_digests.add(BROKEN)
    return world


@pytest.fixture
def subject(world: FakeWorld, clock: FakeClock) -> Subject:
    name = uuid.uuid4().hex
    WORLDS[name] = world
    return Subject(FakeDriver(name), "file:///srv/twice", "sha256:" + "1" * 64, BROKEN, lambda: clock.forward(1))


class TestFakeDriver(DriverConformance):
    pass


def test_replicas_become_ready_one_after_the_other(subject: Subject, clock: FakeClock) -> None:
    from dataclasses import replace

    subject.driver.apply(subject.plan(1, {"a": FULL_BP}, replace(subject.variant("a"), replicas=2)), epoch=1)
    ready = []
    for _ in range(3):
        seen = subject.driver.observe(subject.endpoint)
        assert seen is not None
        ready.append(seen.variants[0].ready_replicas)
        clock.forward(3)
    assert ready == [0, 1, 2]


def test_a_variant_told_never_to_be_ready_keeps_starting(subject: Subject, world: FakeWorld, clock: FakeClock) -> None:
    world.faults.never_ready.add("a")
    subject.driver.apply(subject.plan(1, {"a": FULL_BP}, subject.variant("a")), epoch=1)
    clock.forward(3600)
    seen = subject.driver.observe(subject.endpoint)
    assert seen is not None
    assert (seen.variants[0].state, seen.route, seen.applied_generation) == (VariantState.STARTING, None, 0)


def test_a_crash_loop_backs_off_and_then_counts_as_failed(subject: Subject, world: FakeWorld, clock: FakeClock) -> None:
    world.faults.crash_loop.add("a")
    subject.driver.apply(subject.plan(1, {"a": FULL_BP}, subject.variant("a")), epoch=1)
    clock.forward(2)
    states = []
    for _ in range(2):
        seen = subject.driver.observe(subject.endpoint)
        assert seen is not None
        states.append(seen.variants[0].state)
        clock.forward(60)
    assert states == [VariantState.BACKOFF, VariantState.FAILED]


def test_a_ready_variant_that_breaks_is_unready_and_keeps_its_route(subject: Subject, world: FakeWorld) -> None:
    subject.apply(subject.plan(1, {"a": FULL_BP}, subject.variant("a")))
    world.faults.never_ready.add("a")
    seen = subject.driver.observe(subject.endpoint)
    assert seen is not None
    assert seen.variants[0].state is VariantState.UNREADY
    assert seen.route is not None
    assert seen.applied_generation == 0


def test_an_unreachable_target_says_that_a_retry_can_help(subject: Subject, world: FakeWorld) -> None:
    world.faults.is_unreachable = True
    with pytest.raises(TargetUnreachable) as unreachable:
        subject.driver.observe(subject.endpoint)
    assert unreachable.value.is_retryable
    world.faults.is_unreachable = False


def test_a_lost_answer_leaves_the_plan_at_the_target(subject: Subject, world: FakeWorld) -> None:
    world.faults.drop_answers = 1
    plan = subject.plan(1, {"a": FULL_BP}, subject.variant("a"))
    with pytest.raises(TargetUnreachable):
        subject.driver.apply(plan, epoch=1)
    seen = subject.driver.observe(subject.endpoint)
    assert seen is not None
    assert seen.generation == 1
    subject.driver.apply(plan, epoch=1)
    assert len(world.applied) == 1


def test_a_refused_plan_names_its_field(subject: Subject, world: FakeWorld) -> None:
    world.faults.refuse_field = "/route/mirror"
    with pytest.raises(PlanRefused) as refused:
        subject.driver.apply(subject.plan(1, {"a": FULL_BP}, subject.variant("a")), epoch=1)
    assert refused.value.fields[0].pointer == "/route/mirror"
