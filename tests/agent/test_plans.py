"""What the agent is told: accepted, refused, fenced, kept."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from agent.errors import ConflictingPlan, PlanInvalid, StaleEpoch
from agent.plan import parse_plan
from agent.store import EndpointStore
from tests.agent.support import plan, variant

GOOD = plan(3, {"v1": 9500, "v2": 500}, mirror={"variant": "v2", "fraction_bp": 100}, sticky_header="x-user")


def change(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def apply(body: dict[str, Any]) -> None:
        *parents, last = path.split("/")
        found: Any = body
        for name in parents:
            found = found[int(name)] if name.isdigit() else found[name]
        if value is ...:
            del found[last]
        else:
            found[last] = value

    return apply


def test_a_good_plan_survives_its_own_wire_form() -> None:
    parsed = parse_plan(GOOD)
    assert parse_plan(parsed.to_wire()) == parsed
    assert parsed.to_wire() == GOOD


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("route/weights_bp", {"v1": 9500, "v2": 400}, "route.weights_bp"),
        ("route/weights_bp", {"v1": 10_500, "v2": -500}, "route.weights_bp.v1"),
        ("route/weights_bp", {"v1": 9500, "v9": 500}, "route.weights_bp.v9"),
        ("route/weights_bp", {"v1": 9999, "v2": True}, "route.weights_bp.v2"),
        ("route/weights_bp", {"v1": 9500.0, "v2": 500}, "route.weights_bp.v1"),
        ("route/weights_bp", [], "route.weights_bp"),
        ("route/mirror/variant", "v9", "route.mirror.variant"),
        ("route/mirror/fraction_bp", 10_001, "route.mirror.fraction_bp"),
        ("route/mirror/extra", 1, "route.mirror.extra"),
        ("route/sticky_header", "x user\n", "route.sticky_header"),
        ("route/failover_to", "v9", "route.failover_to"),
        ("route/period", True, "route.period"),
        ("route", ..., "route"),
        ("generation", -1, "generation"),
        ("generation", "3", "generation"),
        ("endpoint", "Late Arrival", "endpoint"),
        ("variants", [], "variants"),
        ("variants/1/key", "v1", "variants[1].key"),
        ("variants/0/key", "../v1", "variants[0].key"),
        ("variants/0/role", "boss", "variants[0].role"),
        ("variants/0/replicas", True, "variants[0].replicas"),
        ("variants/0/replicas", 0, "variants[0].replicas"),
        ("variants/0/workers", 0, "variants[0].workers"),
        ("variants/0/artifact_digest", "md5:1", "variants[0].artifact_digest"),
        ("variants/0/limits/timeout_seconds", 0, "variants[0].limits.timeout_seconds"),
        ("variants/0/limits/timeout_seconds", float("nan"), "variants[0].limits.timeout_seconds"),
        ("variants/0/limits/max_rows", 1.5, "variants[0].limits.max_rows"),
        ("variants/0/env", {"A=B": "x"}, "variants[0].env.A=B"),
        ("variants/0/limits/queue", 100_001, "variants[0].limits.queue"),
        ("variants/0/limits/timeout_seconds", 1e-9, "variants[0].limits.timeout_seconds"),
        ("variants/0/version", "1.0.0\r\nset-cookie: a=b", "variants[0].version"),
        ("variants/0/model", "m\ud800", "variants[0].model"),
        ("variants/0/env", {"A": "\ud800"}, "variants[0].env.A"),
        ("variants/0/env", {"A": 1}, "variants[0].env.A"),
        ("variants/0/colour", "red", "variants[0].colour"),
        ("strategy", "canary", "strategy"),
    ],
)
def test_a_wrong_plan_is_refused_with_the_field_named(path: str, value: Any, field: str) -> None:
    import copy

    body = copy.deepcopy(GOOD)
    change(path, value)(body)
    with pytest.raises(PlanInvalid) as refused:
        parse_plan(body)
    assert refused.value.field == field
    assert refused.value.detail.endswith(".")


@pytest.mark.parametrize("body", [None, [], "plan", 3])
def test_something_else_than_an_object_is_no_plan(body: Any) -> None:
    with pytest.raises(PlanInvalid):
        parse_plan(body)


def test_role_and_replicas_do_not_restart_a_process_but_everything_else_does() -> None:
    base = parse_plan(plan(1, {"v1": 10_000})).variants[0].spec_hash

    def spec(**changes: Any) -> str:
        return parse_plan(plan(1, {"v1": 10_000}, variant("v1", **changes))).variants[0].spec_hash

    assert spec(role="candidate") == spec(replicas=3) == base
    others = {spec(workers=2), spec(env={"A": "1"}), spec(artifact_digest="sha256:" + "1" * 64), spec(version="1.0.1")}
    assert len(others | {base}) == 5


class TestFencing:
    @pytest.fixture
    def store(self, tmp_path: Any) -> EndpointStore:
        store = EndpointStore(tmp_path)
        store.put("late-arrival", 5, parse_plan(plan(12, {"v1": 10_000})))
        return store

    @pytest.mark.parametrize(("epoch", "generation"), [(4, 99), (5, 11), (0, 0)])
    def test_a_lower_pair_is_stale_and_says_what_is_current(
        self, store: EndpointStore, epoch: int, generation: int
    ) -> None:
        with pytest.raises(StaleEpoch) as refused:
            store.put("late-arrival", epoch, parse_plan(plan(generation, {"v1": 10_000})))
        assert refused.value.extra == {"current_epoch": 5, "current_generation": 12}

    @pytest.mark.parametrize(("epoch", "generation"), [(5, 13), (6, 1)])
    def test_a_higher_pair_is_accepted_and_on_disk(self, store: EndpointStore, epoch: int, generation: int) -> None:
        store.put("late-arrival", epoch, parse_plan(plan(generation, {"v2": 10_000})))
        again = EndpointStore(store._folder)
        again.load()
        assert again.all() == store.all()
        assert again.all()[0].epoch == epoch

    def test_the_same_pair_is_accepted_only_with_the_same_plan(self, store: EndpointStore) -> None:
        assert store.put("late-arrival", 5, parse_plan(plan(12, {"v1": 10_000})))[1] is False
        with pytest.raises(ConflictingPlan):
            store.put("late-arrival", 5, parse_plan(plan(12, {"v2": 10_000})))

    def test_a_removal_leaves_a_tombstone_that_late_copies_cannot_pass(self, store: EndpointStore) -> None:
        with pytest.raises(StaleEpoch):
            store.remove("late-arrival", 4)
        store.remove("late-arrival", 6)
        assert store.remove("late-arrival", 6)[1] is False
        again = EndpointStore(store._folder)
        again.load()
        for epoch, generation in ((5, 12), (5, 99), (6, 12)):
            with pytest.raises(StaleEpoch):
                again.put("late-arrival", epoch, parse_plan(plan(generation, {"v1": 10_000})))
        assert again.put("late-arrival", 7, parse_plan(plan(1, {"v1": 10_000})))[1]

    def test_a_damaged_record_is_named_and_the_others_are_served(self, store: EndpointStore) -> None:
        (store._folder / "broken.json").write_text('{"endpoint": "br')
        again = EndpointStore(store._folder)
        again.load()
        assert [record.endpoint for record in again.all()] == ["late-arrival"]
        assert "broken.json" in again.warnings[0]
        assert again.unreadable == ["broken"]

    @pytest.mark.parametrize("stands_in", [False, True])
    def test_a_damaged_record_is_no_warning_any_more_once_the_endpoint_is_applied_again(
        self, store: EndpointStore, stands_in: bool
    ) -> None:
        (store._folder / "broken.json").write_text("[" * 100_000)
        again = EndpointStore(store._folder)
        again.load()
        found = parse_plan(plan(1, {"v1": 10_000}, endpoint="broken"))
        if stands_in:
            again.stand_in("broken", 1, found)
            assert ["broken.json" in text for text in again.warnings] == [True]
        again.put("broken", 2, found)
        assert (again.warnings, again.unreadable) == ([], [])


@pytest.mark.real
class TestOverHttp:
    def test_without_the_token_nothing_is_told(self, shared_agent: Any) -> None:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic x"}):
            response = httpx.get(f"{shared_agent.url}/v1/probe", headers=headers)
            assert response.status_code == 401
            assert response.json()["code"] == "unauthorized"
        assert httpx.get(f"{shared_agent.url}/livez").status_code == 200

    def test_bad_bodies_are_problems_that_name_the_field(self, shared_agent: Any) -> None:
        api = shared_agent.api
        bad = plan(1, {"v1": 9999}, endpoint="bad")
        response = shared_agent.put(bad)
        assert (response.status_code, response.json()["code"]) == (422, "invalid_plan")
        assert response.json()["field"] == "route.weights_bp"
        assert response.headers["content-type"] == "application/problem+json"
        good = plan(1, {"v1": 10_000}, endpoint="bad")
        wrong_name = api.put("/v1/endpoints/other", json={"epoch": 1, "plan": good})
        assert (wrong_name.status_code, wrong_name.json()["field"]) == (422, "endpoint")
        for epoch in (True, -1, "1", None):
            response = api.put("/v1/endpoints/bad", json={"epoch": epoch, "plan": good})
            assert (response.status_code, response.json()["field"]) == (422, "epoch")
        assert api.put("/v1/endpoints/bad", content=b"{").status_code == 400
        assert api.put("/v1/endpoints/bad", content=b'{"epoch": NaN}').status_code == 400
        assert api.put("/v1/endpoints/bad", content=b" " * 1_100_000).status_code == 413
        assert api.get("/v1/endpoints/bad").status_code == 404

    def test_paths_are_names_and_nothing_else(self, shared_agent: Any) -> None:
        api = shared_agent.api
        assert api.get("/v1/endpoints/..%2f..%2fstate/variants/x/logs").status_code == 404
        assert api.get("/v1/endpoints/x/variants/..%2f..%2fenvoy/logs").status_code == 404
        assert api.delete("/v1/endpoints/..%2fstate?epoch=1").status_code == 404
        assert api.post("/v1/probe").status_code == 405
        assert api.get("/v1/nothing").status_code == 404

    def test_stale_and_conflicting_plans_are_409(self, shared_agent: Any) -> None:
        first = plan(5, {"v1": 10_000}, endpoint="fenced")
        assert shared_agent.put(first, epoch=5).json() == {"epoch": 5, "generation": 5}
        assert shared_agent.put(first, epoch=5).status_code == 200
        stale = shared_agent.put(plan(9, {"v1": 10_000}, endpoint="fenced"), epoch=4)
        assert (stale.status_code, stale.json()["code"]) == (409, "stale_epoch")
        assert (stale.json()["current_epoch"], stale.json()["current_generation"]) == (5, 5)
        other = shared_agent.put(plan(5, {"v2": 10_000}, endpoint="fenced"), epoch=5)
        assert (other.status_code, other.json()["code"]) == (409, "conflicting_plan")
        refused = shared_agent.api.delete("/v1/endpoints/fenced?epoch=4")
        assert (refused.status_code, refused.json()["code"]) == (409, "stale_epoch")
        assert shared_agent.api.delete("/v1/endpoints/fenced").json()["field"] == "epoch"

    def test_of_many_writers_at_once_the_highest_pair_wins(self, shared_agent: Any) -> None:
        def write(epoch: int) -> None:
            shared_agent.put(plan(1, {f"v{epoch}": 10_000}, endpoint="raced"), epoch=epoch)

        threads = [threading.Thread(target=write, args=(epoch,)) for epoch in range(1, 11)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert shared_agent.observed("raced")["epoch"] == 10

    def test_the_probe_says_what_the_agent_can_do(self, shared_agent: Any) -> None:
        shared_agent.wait_for(lambda: shared_agent.api.get("/v1/probe").json()["envoy_version"], "Envoy to answer")
        probe = shared_agent.api.get("/v1/probe").json()
        assert probe["capabilities"] == {
            "weights": "exact",
            "force_header": "exact",
            "arm_header": "exact",
            "mirror": "exact",
            "sticky": "exact",
            "min_weight_bp": 1,
        }
        assert probe["gateway_url"] == shared_agent.gateway_url
        assert probe["free_bytes"] > 0
