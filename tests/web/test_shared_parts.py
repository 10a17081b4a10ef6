"""What is the same for everybody is rendered once; what is not stays out of it; reports are told to open pages."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from apps.kernel import rendered
from apps.kernel.rendered import SHARED, Rendered
from apps.rollouts.web import endpoint_parts
from apps.telemetry.ingest import herald
from tests.api.world import World
from tests.web.conftest import Browser, report

TRAFFIC = "/rollouts/at/late-arrival/traffic/"
CHARTS = "/rollouts/at/late-arrival/charts/15m/"


def test_two_hundred_who_ask_at_once_wait_for_one_rendering() -> None:
    shared, started, go = Rendered(), threading.Event(), threading.Event()

    def make() -> str:
        started.set()
        assert go.wait(30)
        return "body"

    with ThreadPoolExecutor(200) as pool:
        asked = [pool.submit(shared.get, "charts", 1, make) for _ in range(200)]
        assert started.wait(30)
        go.set()
        assert {one.result(30) for one in asked} == {"body"}
    assert shared.made == 1


def test_a_rendering_that_fails_fails_for_those_who_waited_and_is_tried_anew() -> None:
    shared = Rendered()
    with pytest.raises(ZeroDivisionError):
        shared.get("charts", 1, lambda: str(1 // 0))
    assert shared.get("charts", 1, lambda: "body") == "body"


def test_what_is_kept_is_bounded_and_only_the_newest_revision_of_a_place() -> None:
    shared = Rendered(limit_bytes=25)
    for place in ("a", "b", "c"):
        for revision in (1, 2):
            shared.get(place, revision, lambda: "x" * 10)
    assert shared.made == 6
    assert shared.get("c", 2, lambda: "new") == "x" * 10
    assert shared.get("a", 2, lambda: "new") == "new", "the one not asked for longest was forgotten"


@pytest.mark.parametrize("path", [TRAFFIC, CHARTS])
def test_the_second_viewer_costs_no_rendering(
    world: World, browser: Browser, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    report("v1-0-0", seconds=[0.02] * 50)
    monkeypatch.setattr(endpoint_parts, "SHARED", shared := Rendered())
    at = time.time()
    for module in (endpoint_parts, rendered):
        monkeypatch.setattr(module, "now", lambda: _moment(at))
    bodies = {browser(name).get(path).content for name in ("alice", "bob", "olga")}
    assert (len(bodies), shared.made) == (1, 1)
    assert b"csrf" not in next(iter(bodies)).lower()


def _moment(at: float) -> Any:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at, UTC)


def test_a_report_a_rollout_and_time_each_make_a_new_rendering(
    world: World, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint_parts, "SHARED", shared := Rendered())
    at = time.time()
    for module in (endpoint_parts, rendered):
        monkeypatch.setattr(module, "now", lambda: _moment(at))
    alice = browser("alice")
    alice.get(TRAFFIC)
    report("v1-0-0", seconds=[0.02] * 50)
    assert b">150<" in alice.get(TRAFFIC).content
    assert shared.made == 2
    rollout = world.start()
    assert rollout.candidate_version.semver.encode() in alice.get(TRAFFIC).content
    assert shared.made == 3
    at += 10
    alice.get(TRAFFIC)
    alice.get(TRAFFIC)
    assert shared.made == 4


def test_who_may_not_see_an_endpoint_is_not_given_what_another_made(world: World, browser: Browser) -> None:
    assert browser("alice").get(TRAFFIC).status_code == 200
    assert browser("mallory").get(TRAFFIC).status_code == 403
    assert browser("").get(TRAFFIC).status_code == 302
    assert SHARED.made >= 1


def test_offers_are_each_persons_own(world: World, browser: Browser) -> None:
    path = "/rollouts/at/late-arrival/offers/"
    alice = browser("alice")
    assert b'class="button primary"' in alice.get(path).content
    assert b"button disabled" in browser("bob").get(path).content
    world.start()
    assert alice.get(path).content.strip() == b""


def test_reports_are_told_at_once_and_then_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, float]] = []
    monkeypatch.setattr(herald, "live_publish", lambda name, frame: told.append((name, time.monotonic())))
    teller = herald.Herald(every_seconds=1.0)
    for _ in range(50):
        teller.tell({"a", "b"})
        time.sleep(0.01)
    _until(lambda: len(told) == 4)
    assert sorted(name for name, _ in told) == ["traffic:a", "traffic:a", "traffic:b", "traffic:b"]
    first, last = sorted(at for name, at in told if name == "traffic:a")
    assert last - first >= 0.9, "the last reports are told of too, after the pause"


def test_a_redis_that_is_away_is_no_concern_of_the_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    def publish(name: str, frame: Any) -> None:
        told.append(name)
        if len(told) == 1:
            raise redis.ConnectionError

    monkeypatch.setattr(herald, "live_publish", publish)
    teller = herald.Herald(every_seconds=0.05)
    teller.tell({"a"})
    _until(lambda: len(told) == 1)
    teller.tell({"a"})
    _until(lambda: len(told) == 2)


def _until(is_so: Any) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)
