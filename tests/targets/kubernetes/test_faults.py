"""An API server that fails, and writers that come too late."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from kubernetes import client

from apps.kernel.errors import DriverError
from apps.targets.domain.driver import StaleEpoch, TargetUnreachable
from apps.targets.domain.plan import FULL_BP, Role
from apps.targets.drivers.kubernetes.driver import KubernetesDriver
from apps.targets.drivers.kubernetes.settings import settings_from
from tests.targets.kubernetes.certificates import certificate
from tests.targets.kubernetes.fake_api import FakeCluster, Fault
from tests.targets.kubernetes.plans import connection
from tests.targets.kubernetes.subjects import applied, driver_at, subject_plan


class TestAnApiServerThatFails:
    def test_is_asked_again_after_429_and_waited_for_as_long_as_it_says(
        self, cluster: FakeCluster, driver: KubernetesDriver
    ) -> None:
        cluster.faults.append(Fault("/deployments", 429, times=2, headers={"Retry-After": "1"}))
        began = time.monotonic()
        driver.observe("nobody")
        assert time.monotonic() - began >= 2.0

    @pytest.mark.parametrize("status", [500, 502, 503, 504, 0])
    def test_is_asked_again_when_that_may_help(
        self, cluster: FakeCluster, driver: KubernetesDriver, status: int
    ) -> None:
        cluster.faults.append(Fault("/pods", status, times=2))
        assert driver.observe("nobody") is None
        assert sum("/pods" in path for _, path in cluster.requests) == 3

    @pytest.mark.parametrize("status", [400, 403, 422])
    def test_is_not_asked_again_when_it_means_no(
        self, cluster: FakeCluster, driver: KubernetesDriver, status: int
    ) -> None:
        cluster.faults.append(Fault("/pods", status, times=9))
        with pytest.raises(DriverError) as refused:
            driver.observe("nobody")
        assert not refused.value.is_retryable
        assert sum("/pods" in path for _, path in cluster.requests) == 1

    def test_that_stays_away_is_unreachable_within_the_time_of_a_lease(
        self, cluster: FakeCluster, driver: KubernetesDriver
    ) -> None:
        cluster.faults.append(Fault("/", 503, times=10_000))
        began = time.monotonic()
        with pytest.raises(TargetUnreachable) as unreachable:
            driver.observe("nobody")
        assert unreachable.value.is_retryable
        assert time.monotonic() - began < 10

    def test_that_does_not_take_the_token_gets_a_new_one_from_the_file_once(self, cluster: FakeCluster) -> None:
        reads = []

        def how() -> client.Configuration:
            reads.append(1)
            found = client.Configuration()
            found.host, found.retries = cluster.url, False
            return found

        driver = KubernetesDriver(settings_from(connection()), how)
        cluster.faults.append(Fault("/configmaps", 401))
        assert driver.observe("nobody") is None
        assert len(reads) == 2
        cluster.faults.append(Fault("/configmaps", 401, times=9))
        with pytest.raises(TargetUnreachable) as unreachable:
            driver.observe("nobody")
        assert unreachable.value.code == "token_refused"
        driver.close()


class TestAFrozenWriter:
    def test_cannot_move_the_route_after_a_newer_one_was_here(self, cluster: FakeCluster) -> None:
        """It has passed the record, read the route, and sleeps; its lease is stolen; it wakes and writes."""
        slow, fast = driver_at(cluster), driver_at(cluster)
        subject = applied(fast, weight_b=5_000)
        a, b = subject.variant("a"), subject.variant("b", Role.CANDIDATE)
        forward = subject.plan(2, {"a": 1_000, "b": 9_000}, a, b)
        back = subject.plan(3, {"a": FULL_BP}, a, b)
        original = slow.api.apply

        def frozen(manifest: dict[str, object], *args: object, **kwargs: object) -> object:
            if manifest["kind"] == "HTTPRoute" and not done:
                done.append(1)
                fast.apply(back, epoch=9)
            return original(manifest, *args, **kwargs)  # type: ignore[arg-type]

        done: list[int] = []
        slow.api.apply = frozen  # type: ignore[method-assign, assignment]
        with pytest.raises(StaleEpoch):
            slow.apply(forward, epoch=1)
        assert done
        route = cluster.objects[("httproutes", subject.endpoint)]
        assert [item["weight"] for item in route["spec"]["rules"][-1]["backendRefs"]] == [FULL_BP]
        slow.close()
        fast.close()

    def test_cannot_write_a_route_that_the_newer_one_left_as_it_was(self, cluster: FakeCluster) -> None:
        slow, fast = driver_at(cluster), driver_at(cluster)
        subject = applied(fast, weight_b=5_000)
        a, b = subject.variant("a"), subject.variant("b", Role.CANDIDATE)
        same = subject_plan(subject, 5_000)
        original, done = slow.api.apply, list[int]()

        def frozen(manifest: dict[str, object], *args: object, **kwargs: object) -> object:
            if manifest["kind"] == "HTTPRoute" and not done:
                done.append(1)
                fast.apply(same, epoch=9)
            return original(manifest, *args, **kwargs)  # type: ignore[arg-type]

        slow.api.apply = frozen  # type: ignore[method-assign, assignment]
        with pytest.raises(StaleEpoch):
            slow.apply(subject.plan(2, {"a": 1_000, "b": 9_000}, a, b), epoch=1)
        assert done
        slow.close()
        fast.close()

    def test_cannot_bring_back_a_route_that_the_newer_one_removed(self, cluster: FakeCluster) -> None:
        slow, fast = driver_at(cluster), driver_at(cluster)
        subject = applied(fast, weight_b=5_000)
        a, b = subject.variant("a"), subject.variant("b", Role.CANDIDATE)
        original, done = slow.api.apply, list[int]()

        def frozen(manifest: dict[str, object], *args: object, **kwargs: object) -> object:
            if manifest["kind"] == "HTTPRoute" and not done:
                done.append(1)
                fast.remove(subject.endpoint, epoch=9)
            return original(manifest, *args, **kwargs)  # type: ignore[arg-type]

        slow.api.apply = frozen  # type: ignore[method-assign, assignment]
        with pytest.raises(StaleEpoch):
            slow.apply(subject.plan(2, {"a": 1_000, "b": 9_000}, a, b), epoch=1)
        assert done
        assert ("httproutes", subject.endpoint) not in cluster.objects
        slow.close()
        fast.close()


class TestAServerThatIsNotTrusted:
    def test_is_told_as_unreachable_and_not_as_a_fault_of_ours(self, tmp_path: Path) -> None:
        certificate(tmp_path)
        with tls_server(tmp_path) as url:

            def how() -> client.Configuration:
                found = client.Configuration()
                found.host, found.retries = url, False
                return found

            driver = KubernetesDriver(settings_from(connection()), how)
            with pytest.raises(TargetUnreachable) as unreachable:
                driver.probe()
            driver.close()
        assert "TLS" in unreachable.value.detail


@contextmanager
def tls_server(folder: Path) -> Iterator[str]:
    """Speaks TLS with the certificate of ``folder``, which nobody trusts by itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def run() -> None:
            with suppress(OSError):  # the end of the test closes it
                while True:
                    line, _ = listening.accept()
                    with line, suppress(OSError):  # ssl.SSLError is one
                        context.wrap_socket(line, server_side=True).close()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(10)
