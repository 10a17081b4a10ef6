"""Real Envoy, real processes: where requests go."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from agent.testing import RunningAgent
from tests.agent.support import counts, is_share, of, plan, steady_load, variant

pytestmark = pytest.mark.real


def two(generation: int, stable_bp: int, **route: Any) -> dict[str, Any]:
    both = (variant("v1"), variant("v2", "candidate"))
    return plan(generation, {"v1": stable_bp, "v2": 10_000 - stable_bp}, *both, **route)


def apply_with_idle_candidate(agent: RunningAgent, generation: int) -> None:
    """A plan is true as soon as what has weight is ready; whoever forces the candidate must wait for it."""
    agent.apply(two(generation, 10_000))
    agent.wait_for(lambda: of(agent.observed("late-arrival"), "v2")["state"] == "ready", "the candidate to be ready")
    agent.wait_for(lambda: counts(agent, 1, **{"x-pilothouse-variant": "v2"})["v2"], "the gateway to know it")


def seen_by(agent: RunningAgent, key: str) -> dict[str, int]:
    port = of(agent.observed("late-arrival"), key)["ports"][0]
    found: dict[str, int] = httpx.get(f"http://127.0.0.1:{port}/seen", trust_env=False).json()
    return found


def test_a_split_of_95_to_5_is_what_callers_see(agent: RunningAgent) -> None:
    agent.apply(two(1, 9500))
    found = counts(agent, 3000)
    assert found.total() == found["v1"] + found["v2"] == 3000
    assert is_share(found["v2"], 3000, 0.05)


def test_a_header_forces_a_variant_and_an_unknown_name_is_answered_with_404(agent: RunningAgent) -> None:
    apply_with_idle_candidate(agent, 1)
    assert counts(agent, 50, **{"x-pilothouse-variant": "v2"}) == {"v2": 50}
    response = httpx.get(f"{agent.gateway_url}/serve/late-arrival/x", headers={"x-pilothouse-variant": "v9"})
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["code"] == "unknown_variant"


def test_the_gateway_labels_requests_itself_whatever_the_caller_sent(agent: RunningAgent) -> None:
    apply_with_idle_candidate(agent, 3)
    lies = {
        "x-pilothouse-route": "forced",
        "x-pilothouse-period": "99",
        "x-pilothouse-probe": "1",
        "x-request-id": "mine",
        "host": "gateway-shadow",
        "x-envoy-upstream-rq-timeout-ms": "1",
    }
    url = f"{agent.gateway_url}/serve/late-arrival/v2/models/m/infer"
    weighted = httpx.post(url, headers=lies).json()
    assert weighted["path"] == "/v2/models/m/infer"
    assert weighted["headers"]["x-pilothouse-route"] == "weighted"
    assert weighted["headers"]["x-pilothouse-period"] == "3"
    assert weighted["headers"]["x-request-id"] == "mine"
    assert "x-pilothouse-probe" not in weighted["headers"]
    assert weighted["headers"]["host"] == "pilothouse"  # not "…-shadow": it would be taken for a mirror's copy
    assert weighted["headers"]["x-forwarded-host"] == "gateway-shadow"
    forced = httpx.post(url, headers=lies | {"x-pilothouse-variant": "v2"}).json()
    assert forced["headers"]["x-pilothouse-route"] == "forced"
    assert forced["headers"]["x-pilothouse-probe"] == "1"
    assert len(httpx.post(url).json()["headers"]["x-request-id"]) == 36


def test_an_unknown_endpoint_is_404_and_one_that_was_never_ready_is_503(agent: RunningAgent) -> None:
    agent.put(plan(1, {"v1": 10_000}, variant("v1", env={"STUB_NEVER_READY": "1"})))
    url = f"{agent.gateway_url}/serve/late-arrival/x"
    agent.wait_for(lambda: _status(url) == 503, "the endpoint to be known to the gateway")
    assert httpx.get(url).json()["code"] == "no_route"
    unknown = httpx.get(f"{agent.gateway_url}/serve/another/x")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_endpoint")


def _settled(count: Callable[[], int]) -> int:
    """The count once it has not moved for half a second: callers do not wait for copies."""
    seen = -1
    while seen != (seen := count()):
        time.sleep(0.5)
    return seen


def _status(url: str) -> int | None:
    """None while nobody listens: the agent answers before its gateway does."""
    try:
        return httpx.get(url).status_code
    except httpx.TransportError:
        return None


def test_a_mirror_gets_a_copy_of_its_share_and_callers_never_hear_of_it(agent: RunningAgent) -> None:
    shadow = variant("v2", "shadow", env={"STUB_STATUS": "500"})
    mirrored = plan(1, {"v1": 10_000}, variant("v1"), shadow, mirror={"variant": "v2", "fraction_bp": 10_000})
    assert agent.apply(mirrored)["route"]["mirror"] == {"variant": "v2", "fraction_bp": 10_000}
    assert counts(agent, 200) == {"v1": 200}
    agent.wait_for(lambda: seen_by(agent, "v2")["mirrored"] == 200, "all copies to arrive")
    assert seen_by(agent, "v1") == {"weighted": 200, "forced": 0, "mirrored": 0, "probe": 0}
    half = plan(2, {"v1": 10_000}, variant("v1"), shadow, mirror={"variant": "v2", "fraction_bp": 2500})
    agent.apply(half)
    counts(agent, 800)
    assert is_share(_settled(lambda: seen_by(agent, "v2")["mirrored"]) - 200, 800, 0.25)


def test_a_sticky_header_keeps_every_caller_on_one_variant_and_growth_takes_none_back(agent: RunningAgent) -> None:
    def assignment() -> dict[int, str]:
        with httpx.Client(base_url=agent.gateway_url) as client:
            answers = {u: client.get("/serve/late-arrival/x", headers={"x-user": f"user-{u}"}) for u in range(300)}
        return {user: answer.headers["x-pilothouse-variant"] for user, answer in answers.items()}

    agent.apply(two(1, 7000, sticky_header="x-user"))
    first = assignment()
    assert assignment() == first
    assert is_share(sum(key == "v2" for key in first.values()), 300, 0.3)
    agent.apply(two(2, 4000, sticky_header="x-user"))
    moved = {user for user, key in assignment().items() if key != first[user]}
    assert moved
    assert all(first[user] == "v1" for user in moved)


def test_a_signed_arm_brings_its_caller_to_its_variant_and_a_forged_one_is_no_arm(agent: RunningAgent) -> None:
    agent.apply(two(1, 10_000, arms={"ex_1.control.aa": "v1", "ex_1.treatment.bb": "v2"}))
    assert agent.observed("late-arrival")["route"]["arms"] == {"ex_1.control.aa": "v1", "ex_1.treatment.bb": "v2"}
    assert counts(agent, 40, **{"x-pilothouse-arm": "ex_1.treatment.bb"}) == {"v2": 40}
    assert counts(agent, 40, **{"x-pilothouse-arm": "ex_1.control.aa"}) == {"v1": 40}
    for forged in ("ex_1.treatment.bc", "ex_1.treatment", "", "v2"):
        assert counts(agent, 10, **{"x-pilothouse-arm": forged}) == {"v1": 10}
    before = seen_by(agent, "v2").get("assigned", 0)
    counts(agent, 5, **{"x-pilothouse-arm": "ex_1.treatment.bb", "x-pilothouse-route": "forced"})
    assert seen_by(agent, "v2").get("assigned", 0) - before == 5  # the gateway says how it came here, not the caller


async def test_weight_changes_under_load_fail_no_request(agent: RunningAgent) -> None:
    await asyncio.to_thread(agent.apply, two(1, 10_000, failover_to="v1"))
    async with steady_load(agent) as load:
        for generation, stable_bp in enumerate((9500, 7500, 5000, 0), start=2):
            await asyncio.to_thread(agent.apply, two(generation, stable_bp, failover_to="v1"))
            await asyncio.sleep(0.5)
        # The old version leaves altogether while everyone is asking.
        await asyncio.to_thread(agent.apply, plan(9, {"v2": 10_000}, variant("v2")))
        assert [found["key"] for found in agent.observed("late-arrival")["variants"]] == ["v2"]
        await asyncio.sleep(0.5)
    assert load.failures == []
    assert load.total > 100
    assert min(load.answers["v1"], load.answers["v2"]) > 20


async def test_a_killed_serving_process_comes_back_while_its_share_is_answered_by_the_failover(
    agent: RunningAgent,
) -> None:
    # The start takes a while, so that the gap is seen.
    slow = (variant("v1"), variant("v2", "candidate", env={"STUB_START_SECONDS": "2"}))
    await asyncio.to_thread(agent.apply, plan(1, {"v1": 5000, "v2": 5000}, *slow, failover_to="v1"))
    before = of(agent.observed("late-arrival"), "v2")
    async with steady_load(agent) as load:
        await asyncio.sleep(0.3)
        os.kill(before["pids"][0], signal.SIGKILL)

        def is_back() -> bool:
            found = of(agent.observed("late-arrival"), "v2")
            return bool(found["state"] == "ready" and found["pids"] != before["pids"])

        await asyncio.to_thread(agent.wait_for, is_back, "v2 to be restarted")
        back = load.answers["v2"]
        await asyncio.to_thread(agent.wait_for, lambda: load.answers["v2"] > back + 20, "v2 to answer again")
    # Only requests that were inside the process when it died can be lost: at most one per caller.
    assert len(load.failures) <= 4, load.failures
    after = of(agent.observed("late-arrival"), "v2")
    assert after["ports"] == before["ports"]
    assert after["restarts"] == 1
    assert after["last_exit"]["code"] == -signal.SIGKILL


def test_a_variant_that_only_fails_is_not_ejected_so_that_its_errors_stay_visible(agent: RunningAgent) -> None:
    broken = variant("v2", "candidate", env={"STUB_STATUS": "500"})
    agent.apply(plan(1, {"v1": 5000, "v2": 5000}, variant("v1"), broken, failover_to="v1"))
    found = counts(agent, 600)
    assert set(found) == {"v1", "500"}
    assert is_share(found["500"], 600, 0.5)
