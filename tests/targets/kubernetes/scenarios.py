"""Whole rollouts as the driver sees them, over any API. A test inherits ``Scenarios`` and provides a ``subject``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from apps.kernel.errors import DriverError
from apps.targets.domain.driver import Observed, TargetUnreachable, VariantState
from apps.targets.domain.observed import divergence
from apps.targets.domain.plan import FULL_BP, EndpointPlan, Role
from apps.targets.drivers.kubernetes.driver import KubernetesDriver
from apps.targets.drivers.kubernetes.resources import DEPLOYMENT
from apps.targets.drivers.kubernetes.retry import Deadline
from apps.targets.drivers.kubernetes.world import read_world
from tests.targets.conformance import Subject
from tests.targets.kubernetes.cluster import STORM_TOKEN
from tests.targets.kubernetes.hands import Hands, Watchman, kubernetes_of
from tests.targets.kubernetes.plans import BROKEN, CRASHING, UNPULLABLE
from tests.targets.kubernetes.reconciled import Reconciled
from tests.targets.kubernetes.subjects import AnyCluster, driver_in, subject_in


class Relief:
    """Traffic never points at a variant that is not ready, whichever way it is routed."""

    @pytest.fixture
    def hands(self, cluster: AnyCluster, namespace: str) -> Hands:
        return Hands(cluster, namespace)

    @pytest.fixture(autouse=True)
    def _tidy(self, subject: Subject) -> Iterator[None]:
        yield
        subject.driver.remove(subject.endpoint, epoch=1_000)

    def test_who_has_no_ready_replica_gets_no_traffic_until_it_has(self, subject: Subject, hands: Hands) -> None:
        """At the first look; the others serve it meanwhile, and the target says so."""
        a, b = subject.variant("a"), subject.variant("b", Role.CANDIDATE)
        subject.apply(subject.plan(1, {"a": FULL_BP}, a, b))
        subject.apply(subject.plan(2, {"a": 5_000, "b": 5_000}, a, b))
        name = next(name for name in _names(subject) if "-b-" in name)
        for outcome in ("CrashLoopBackOff", "NeverReady"):
            hands.make(name, outcome)
            seen = subject.wait(lambda seen: _shares(seen) == {"a": FULL_BP})
            assert seen.route is not None
            assert dict(seen.route.relieved) == {"b": 5_000}
            assert seen.route.period == 2, "nobody has desired another split"
            assert "b has no ready replica" in seen.route_error
            assert "its 50 % go to a" in seen.route_error
            assert not seen.awaits_apply
            assert not divergence(subject.plan(2, {"a": 5_000, "b": 5_000}, a, b), seen)
            hands.make(name, "Ready")
            seen = subject.wait(lambda seen: seen.applied_generation == 2)
            assert seen.route is not None
            assert (_shares(seen), dict(seen.route.relieved)) == ({"a": 5_000, "b": 5_000}, {})

    def test_stable_is_relieved_like_everybody_and_takes_its_share_again(self, subject: Subject, hands: Hands) -> None:
        a, b = subject.variant("a"), subject.variant("b", Role.CANDIDATE)
        subject.apply(subject.plan(1, {"a": FULL_BP}, a, b))
        subject.apply(subject.plan(2, {"a": 9_500, "b": 500}, a, b))
        name = next(name for name in _names(subject) if "-a-" in name)
        hands.make(name, "NeverReady")
        subject.wait(lambda seen: _shares(seen) == {"b": FULL_BP})
        hands.make(name, "Ready")
        subject.wait(lambda seen: seen.applied_generation == 2 and _shares(seen) == {"a": 9_500, "b": 500})

    def test_nobody_is_relieved_where_nobody_could_take_over(self, subject: Subject, hands: Hands) -> None:
        a, b = subject.variant("a"), subject.variant("b", Role.CANDIDATE)
        subject.apply(subject.plan(1, {"a": FULL_BP}, a, b))
        subject.apply(subject.plan(2, {"a": 5_000, "b": 5_000}, a, b))
        hands.make(next(name for name in _names(subject) if "-a-" in name), "NeverReady")
        subject.wait(lambda seen: _shares(seen) == {"b": FULL_BP})
        hands.make(next(name for name in _names(subject) if "-b-" in name), "NeverReady")
        subject.wait(lambda seen: _state(seen, "b") is VariantState.UNREADY)
        seen = subject.wait(lambda seen: not seen.awaits_apply)
        assert seen.route is not None
        assert sum(seen.route.weights_bp.values()) == FULL_BP

    def test_the_old_version_takes_over_again_by_itself_while_it_is_still_there(
        self, subject: Subject, hands: Hands
    ) -> None:
        """``failover_to``, which no gateway has: after a promotion, while the old version drains or is kept warm."""
        a, b = subject.variant("a"), subject.variant("b", Role.CANDIDATE)
        subject.apply(subject.plan(1, {"a": FULL_BP}, a, b))
        warm = subject.plan(2, {"b": FULL_BP}, replace(b, role=Role.STABLE), replace(a, role=Role.WARM))
        subject.apply(replace(warm, route=replace(warm.route, failover_to="a")))
        name = next(name for name in _names(subject) if "-b-" in name)
        hands.crash(name)
        subject.wait(lambda seen: _shares(seen) == {"a": FULL_BP})
        hands.make(name, "Ready")
        subject.wait(lambda seen: seen.applied_generation == 2 and _shares(seen) == {"b": FULL_BP})


class Scenarios(Relief):
    outage_seconds = 60.0

    def test_a_canary_goes_to_the_end_and_the_old_version_leaves(self, subject: Subject) -> None:
        a, b = replace(subject.variant("a"), replicas=2), replace(subject.variant("b", Role.CANDIDATE), replicas=2)
        subject.apply(subject.plan(1, {"a": FULL_BP}, a))
        with Watchman(kubernetes_of(subject), subject.endpoint).watching():
            for generation, share in enumerate((0, 500, 2_500, 5_000, FULL_BP), start=2):
                seen = subject.apply(subject.plan(generation, {"a": FULL_BP - share, "b": share}, a, b))
                assert seen.route is not None
                assert {key: value for key, value in seen.route.weights_bp.items() if value} == {
                    key: value for key, value in (("a", FULL_BP - share), ("b", share)) if value
                }
            before = _names(subject)
            seen = subject.apply(subject.plan(9, {"b": FULL_BP}, replace(b, role=Role.STABLE)))
        seen = subject.wait(lambda seen: seen.variant("a") is None and not seen.awaits_apply)
        assert [variant.key for variant in seen.variants] == ["b"]
        assert _names(subject) < before, "promotion points elsewhere, it makes nothing anew"

    def test_an_image_that_cannot_be_pulled_gets_no_traffic(self, subject: Subject) -> None:
        a = subject.variant("a")
        bad = replace(subject.variant("b", Role.CANDIDATE), artifact_digest=UNPULLABLE)
        subject.apply(subject.plan(1, {"a": FULL_BP}, a))
        with Watchman(kubernetes_of(subject), subject.endpoint).watching():
            subject.driver.apply(subject.plan(2, {"a": 9_500, "b": 500}, a, bad), epoch=1)
            seen = subject.wait(lambda seen: "cannot be pulled" in _reason(seen, "b"))
            assert "waiting for b" in seen.route_error
            assert seen.route is not None
            assert dict(seen.route.weights_bp) == {"a": FULL_BP}
            subject.apply(subject.plan(3, {"a": FULL_BP}, a))

    def test_a_candidate_that_crashes_is_told_with_what_it_said_last(self, subject: Subject) -> None:
        a = subject.variant("a")
        bad = replace(subject.variant("b", Role.CANDIDATE), artifact_digest=CRASHING)
        subject.apply(subject.plan(1, {"a": FULL_BP}, a))
        subject.driver.apply(subject.plan(2, {"a": FULL_BP}, a, bad), epoch=1)
        seen = subject.wait(lambda seen: _state(seen, "b") in {VariantState.BACKOFF, VariantState.FAILED})
        assert "again and again" in _reason(seen, "b")
        seen = subject.wait(lambda seen: "it last said" in _reason(seen, "b"))
        found = seen.variant("b")
        assert found is not None
        assert found.last_exit is not None

    def test_a_candidate_that_never_becomes_ready_gets_no_traffic(self, subject: Subject) -> None:
        a = subject.variant("a")
        bad = replace(subject.variant("b", Role.CANDIDATE), artifact_digest=BROKEN)
        subject.apply(subject.plan(1, {"a": FULL_BP}, a))
        with Watchman(kubernetes_of(subject), subject.endpoint).watching():
            subject.driver.apply(subject.plan(2, {"a": 9_500, "b": 500}, a, bad), epoch=1)
            seen = subject.wait(lambda seen: "runs but is not ready" in _reason(seen, "b"))
            assert seen.applied_generation == 1
            assert seen.route is not None
            assert dict(seen.route.weights_bp) == {"a": FULL_BP}
            subject.apply(subject.plan(3, {"a": FULL_BP}, a))

    def test_a_candidate_that_crashes_at_half_of_the_traffic_is_told_and_the_route_comes_back_first(
        self, subject: Subject, hands: Hands
    ) -> None:
        a, b = subject.variant("a"), subject.variant("b", Role.CANDIDATE)
        subject.apply(subject.plan(1, {"a": FULL_BP}, a, b))
        driver = kubernetes_of(subject)
        with Watchman(driver, subject.endpoint, is_strict=False).watching():
            subject.apply(subject.plan(2, {"a": 5_000, "b": 5_000}, a, b))
            hands.crash(next(name for name in _names(subject) if "-b-" in name))
            seen = subject.wait(lambda seen: _state(seen, "b") is VariantState.BACKOFF)
            assert "again and again" in _reason(seen, "b")
            seen = subject.wait(lambda seen: seen.route is not None and bool(seen.route.relieved))
            assert seen.applied_generation == 1, "what is desired is another thing, and not forgotten"
            assert seen.generation == 2
            driver.apply(subject.plan(3, {"a": FULL_BP}, a, b), epoch=1)
            world = read_world(driver.api, driver.router, subject.endpoint, Deadline.after(8))
            back = driver.router.seen(world.route(driver.router)).route
            assert back is not None
            assert dict(back.weights_bp) == {"a": FULL_BP}, "one apply is enough: it waits for nobody"

    def test_an_image_that_can_never_be_pulled_is_given_up_soon(
        self, subject: Subject, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("apps.targets.drivers.kubernetes.conditions.PULL_GRACE_SECONDS", 2.0)
        a = subject.variant("a")
        bad = replace(subject.variant("b", Role.CANDIDATE), artifact_digest=UNPULLABLE)
        subject.apply(subject.plan(1, {"a": FULL_BP}, a))
        subject.driver.apply(subject.plan(2, {"a": FULL_BP}, a, bad), epoch=1)
        seen = subject.wait(lambda seen: _state(seen, "b") is VariantState.FAILED)
        assert "cannot be pulled" in _reason(seen, "b")
        assert "not found" in _reason(seen, "b"), "the node's own words"

    def test_an_api_server_that_is_away_for_a_minute_in_the_middle_of_a_step(
        self, subject: Subject, cluster: AnyCluster
    ) -> None:
        a, b = subject.variant("a"), subject.variant("b", Role.CANDIDATE)
        subject.apply(subject.plan(1, {"a": FULL_BP}, a, b))
        driver, shift = kubernetes_of(subject), subject.plan(2, {"a": 5_000, "b": 5_000}, a, b)
        with Watchman(driver, subject.endpoint).watching():
            cluster.stop_server()
            end_at = time.monotonic() + self.outage_seconds
            try:
                while time.monotonic() < end_at:
                    began = time.monotonic()
                    with pytest.raises(TargetUnreachable) as unreachable:
                        driver.apply(shift, epoch=1)
                    assert unreachable.value.is_retryable
                    assert time.monotonic() - began < 10, "a caller's lease is not outlived"
            finally:
                cluster.restart_server()
            seen = subject.apply(shift)
            assert seen.route is not None
            assert dict(seen.route.weights_bp) == {"a": 5_000, "b": 5_000}

    def test_a_storm_of_429_in_the_middle_of_a_step(self, cluster: AnyCluster, namespace: str) -> None:
        driver = driver_in(cluster, namespace, token=STORM_TOKEN)
        subject = subject_in(driver)
        a, b = subject.variant("a"), subject.variant("b", Role.CANDIDATE)
        subject.apply(subject.plan(1, {"a": FULL_BP}, a, b))
        shift = subject.plan(2, {"a": 5_000, "b": 5_000}, a, b)
        with Watchman(driver, subject.endpoint).watching():
            with cluster.storm():
                refused = _refusal_of(driver, shift)
                assert refused.code == "http_429"
                assert refused.is_retryable
                assert refused.extra["retry_after_seconds"] >= 1
            seen = subject.apply(shift)
            assert seen.route is not None
            assert dict(seen.route.weights_bp) == {"a": 5_000, "b": 5_000}
        subject.driver.remove(subject.endpoint, epoch=9)
        driver.close()

    def test_a_token_that_ends_in_the_middle_of_a_step_and_is_renewed(
        self, subject: Subject, cluster: AnyCluster
    ) -> None:
        a, b = subject.variant("a"), subject.variant("b", Role.CANDIDATE)
        subject.apply(subject.plan(1, {"a": FULL_BP}, a, b))
        token = [cluster.token_for(3)]
        settings = kubernetes_of(subject).settings
        driver = KubernetesDriver(settings, lambda: cluster.configuration(token[0]))
        other = replace(subject, driver=Reconciled(driver))
        shift = subject.plan(2, {"a": 5_000, "b": 5_000}, a, b)
        assert driver.observe(subject.endpoint) is not None
        refused = _refusal_of(driver, shift)
        assert refused.code == "token_refused"
        assert "renew the target's token" in refused.detail
        token[0] = cluster.token_for(600)
        seen = other.apply(shift)
        assert seen.route is not None
        assert dict(seen.route.weights_bp) == {"a": 5_000, "b": 5_000}
        driver.close()

    def test_a_deployment_deleted_in_the_middle_of_a_step_comes_back(self, subject: Subject, hands: Hands) -> None:
        a, b = subject.variant("a"), subject.variant("b", Role.CANDIDATE)
        subject.apply(subject.plan(1, {"a": 5_000, "b": 5_000}, a, b))
        name = next(name for name in _names(subject) if "-b-" in name)
        hands.delete("deployments", name)
        seen = subject.wait(lambda seen: seen.applied_generation == 1 and name in _names(subject))
        assert seen.variant("b") is not None

    def test_a_deployment_scaled_by_hand_is_named_with_who_did_it(self, subject: Subject, hands: Hands) -> None:
        a = subject.variant("a")
        plan = subject.plan(1, {"a": FULL_BP}, a)
        subject.apply(plan)
        hands.scale(next(iter(_names(subject))), 2)
        driver = kubernetes_of(subject)
        with pytest.raises(DriverError) as refused:
            driver.apply(plan, epoch=1)
        assert refused.value.code == "field_conflict"
        assert refused.value.extra["conflicts"] == [{"field": "spec.replicas", "manager": "kubectl-scale"}]
        seen = driver.observe(subject.endpoint)
        assert seen is not None
        assert "spec.replicas is 2, desired is 1" in seen.awaits_apply

    def test_a_route_that_somebody_took_is_left_to_them_but_not_on_the_way_back(
        self, subject: Subject, hands: Hands
    ) -> None:
        a, b = subject.variant("a"), subject.variant("b", Role.CANDIDATE)
        subject.apply(subject.plan(1, {"a": FULL_BP}, a, b))
        subject.apply(subject.plan(2, {"a": 9_000, "b": 1_000}, a, b))
        hands.give_everything_to(subject.endpoint, next(name for name in _names(subject) if "-b-" in name))
        driver = kubernetes_of(subject)
        with pytest.raises(DriverError) as refused:
            driver.apply(subject.plan(3, {"a": 5_000, "b": 5_000}, a, b), epoch=1)
        assert refused.value.extra["conflicts"] == [{"field": "spec.rules", "manager": "kubectl-edit"}]
        back = replace(subject.plan(4, {"a": FULL_BP}, a, b), is_return=True)
        seen = subject.apply(back)
        assert seen.route is not None
        assert dict(seen.route.weights_bp) == {"a": FULL_BP}

    def test_another_artifact_under_the_same_key_takes_over_when_it_is_ready(self, subject: Subject) -> None:
        a = subject.variant("a")
        subject.apply(subject.plan(1, {"a": FULL_BP}, a))
        before = _names(subject)
        with Watchman(kubernetes_of(subject), subject.endpoint).watching():
            changed = replace(a, env={"A": "b"})
            subject.apply(subject.plan(2, {"a": FULL_BP}, changed))
        subject.wait(lambda seen: len(_names(subject)) == 1 and not seen.awaits_apply)
        assert _names(subject).isdisjoint(before)

    def test_an_endpoint_that_is_removed_takes_everything_with_it(self, subject: Subject) -> None:
        a = subject.variant("a")
        subject.apply(subject.plan(1, {"a": FULL_BP}, a))
        subject.driver.remove(subject.endpoint, epoch=2)
        driver = kubernetes_of(subject)
        for _ in range(subject.patience):
            world = read_world(driver.api, driver.router, subject.endpoint, Deadline.after(8))
            if len(world.objects) == 1:
                break
            subject.pass_time()
        assert [name for _, name in world.objects] == [f"{subject.endpoint}-record"]
        assert world.record is not None
        assert (world.record.epoch, world.record.plan) == (2, None)

    def test_the_preflight_of_a_good_plan_passes_and_changes_nothing(self, subject: Subject) -> None:
        driver = kubernetes_of(subject)
        plan: EndpointPlan = subject.plan(1, {"a": FULL_BP}, subject.variant("a"))
        report = driver.preflight(plan)
        assert [(check.name, check.detail) for check in report.checks if check.verdict in {"fail", "error"}] == []
        assert {change.what for change in report.changes} == {"create"}
        assert read_world(driver.api, driver.router, subject.endpoint, Deadline.after(8)).objects == {}


def _refusal_of(driver: KubernetesDriver, plan: EndpointPlan) -> DriverError:
    """Apply until it is refused: a storm, or the end of a token, takes a moment to begin."""
    end_at = time.monotonic() + 120
    while True:
        try:
            driver.apply(plan, epoch=1)
        except DriverError as error:
            return error
        assert time.monotonic() < end_at, "it was never refused"
        time.sleep(0.2)


def _names(subject: Subject) -> set[str]:
    driver = kubernetes_of(subject)
    world = read_world(driver.api, driver.router, subject.endpoint, Deadline.after(8))
    return {name for kind, name in world.objects if kind == DEPLOYMENT.kind}


def _shares(seen: Observed) -> dict[str, int]:
    return {key: share for key, share in seen.route.weights_bp.items() if share} if seen.route else {}


def _reason(seen: Observed, key: str) -> str:
    found = seen.variant(key)
    return found.reason if found else ""


def _state(seen: Observed, key: str) -> VariantState | None:
    found = seen.variant(key)
    return found.state if found else None
