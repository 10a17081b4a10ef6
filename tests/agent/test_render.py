"""The files that Envoy reads, byte for byte. `python -m tests.agent.test_render` writes them anew after a change."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.envoy.carry import carry_over, named_clusters, ports_of
from agent.envoy.render import cluster_name, render_bootstrap, render_clusters, render_routes
from agent.envoy.view import EndpointView, GatewaySettings, Host
from agent.plan import Mirror, Route

GOLDEN = Path(__file__).parent / "golden"
FULL = EndpointView(
    "late-arrival",
    {"v1-0-0": (Host("127.0.0.1", 7101),), "v1-1-0": (Host("127.0.0.1", 7103), Host("127.0.0.1", 7102))},
    Route(7, {"v1-0-0": 9500, "v1-1-0": 500}, Mirror("v1-1-0", 2500), "x-user", "v1-0-0"),
    10.0,
)
PLAIN = EndpointView("fraud", {"a": (Host("127.0.0.1", 7110),)}, Route(1, {"a": 10_000}), 30.0)
COLD = EndpointView("cold", {"only": ()}, None, 10.0)
BACK = EndpointView("back", {"a": (Host("127.0.0.1", 7120),)}, Route(1, {"a": 10_000}), 10.0, frozenset({"a"}))
VIEWS = [FULL, PLAIN, COLD, BACK]


def rendered() -> dict[str, Any]:
    settings = GatewaySettings(
        "ph-node", 7080, 7081, "/home/cds.json", "/home/rds.json", "/home/unserved.log", "/home/access.log"
    )
    return {
        "cds.json": render_clusters(VIEWS),
        "rds.json": render_routes(VIEWS),
        "bootstrap.json": render_bootstrap(settings),
    }


@pytest.mark.parametrize("name", ["cds.json", "rds.json", "bootstrap.json"])
def test_the_rendered_file_is_the_golden_one(name: str) -> None:
    assert rendered()[name] == json.loads((GOLDEN / name).read_text(encoding="utf-8"))


def test_the_order_of_endpoints_and_keys_does_not_matter() -> None:
    assert FULL.route is not None
    turned = EndpointView(
        FULL.endpoint,
        dict(reversed(list(FULL.clusters.items()))),
        Route(7, dict(reversed(list(FULL.route.weights_bp.items()))), FULL.route.mirror, "x-user", "v1-0-0"),
        10.0,
    )
    assert render_routes([COLD, BACK, PLAIN, turned]) == render_routes(VIEWS)
    assert render_clusters([COLD, BACK, PLAIN, turned]) == render_clusters(VIEWS)


def test_an_arm_is_an_exact_match_before_the_weights_and_has_no_failover() -> None:
    assert FULL.route is not None
    arms = replace(FULL.route, arms={"ex_1.treatment.aa": "v1-1-0"})
    table = render_routes([replace(FULL, route=arms)])["resources"][0]["virtual_hosts"][0]["routes"]
    plain = render_routes([FULL])["resources"][0]["virtual_hosts"][0]["routes"]
    added = [route for route in table if route not in plain]
    assert len(table) == len(plain) + 1
    assert added[0]["match"]["headers"] == [
        {"name": "x-pilothouse-arm", "string_match": {"exact": "ex_1.treatment.aa"}}
    ]
    assert added[0]["route"]["cluster"] == "late-arrival/v1-1-0"
    assert table.index(added[0]) == len(table) - 3  # behind the forced variants, before the weights and the 404


def test_the_failover_target_itself_has_no_failover() -> None:
    names = [resource["name"] for resource in render_clusters([FULL])["resources"]]
    assert names == ["late-arrival/v1-0-0", "late-arrival/v1-1-0", "late-arrival/v1-1-0/fo"]


def test_only_a_returning_variant_without_failover_has_no_checks_and_a_single_process_is_never_ejected() -> None:
    def traits(view: EndpointView, key: str) -> tuple[bool, bool]:
        found = {resource["name"]: resource for resource in render_clusters([view])["resources"]}
        cluster = found[f"{view.endpoint}/{key}"]
        return "health_checks" in cluster, "outlier_detection" in cluster

    assert traits(BACK, "a") == (False, False)
    assert traits(PLAIN, "a") == (True, False)
    assert traits(replace(FULL, returning=frozenset({"v1-1-0"})), "v1-1-0") == (True, True)
    assert traits(replace(FULL, returning=frozenset({"v1-0-0"})), "v1-0-0") == (False, False)


def test_weights_that_do_not_sum_are_never_written() -> None:
    with pytest.raises(ValueError, match="sum to 9999"):
        render_routes([EndpointView("e", {"a": ()}, Route(1, {"a": 9999}), 1.0)])


@st.composite
def views(draw: st.DrawFn) -> EndpointView:
    keys = draw(st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=1, max_size=4, unique=True))
    cuts = sorted(draw(st.lists(st.integers(0, 10_000), min_size=len(keys) - 1, max_size=len(keys) - 1)))
    weights = [high - low for low, high in zip([0, *cuts], [*cuts, 10_000], strict=True)]
    mirror = draw(st.none() | st.builds(Mirror, st.sampled_from(keys), st.integers(0, 10_000)))
    failover = draw(st.none() | st.sampled_from(keys))
    route = Route(1, dict(zip(keys, weights, strict=True)), mirror, None, failover)
    return EndpointView("e", dict.fromkeys(keys, ()), draw(st.none() | st.just(route)), 10.0)


@given(views())
def test_every_cluster_that_a_route_names_exists_and_weights_are_exact(view: EndpointView) -> None:
    clusters = {resource["name"] for resource in render_clusters([view])["resources"]}
    routes = render_routes([view])
    assert named_clusters(routes) <= clusters
    weighted = [route["route"]["weighted_clusters"]["clusters"] for route in _weighted(routes)]
    assert all(sum(cluster["weight"] for cluster in found) == 10_000 for found in weighted)
    assert len(weighted) == (view.route is not None)


@given(views(), views())
def test_while_routes_change_no_route_is_left_without_its_cluster(old: EndpointView, new: EndpointView) -> None:
    between = carry_over(render_clusters([new]), render_clusters([old]), render_routes([old]))
    names = {resource["name"] for resource in between}
    assert named_clusters(render_routes([old])) | named_clusters(render_routes([new])) <= names
    for resource in between:
        assert set(resource.get("cluster_type", {}).get("typed_config", {}).get("clusters", [])) <= names


def test_ports_of_a_file_are_those_of_its_hosts() -> None:
    assert ports_of(render_clusters(VIEWS)) == {7101, 7102, 7103, 7110, 7120}
    assert ports_of(None) == set()
    assert cluster_name("e", "k") == "e/k"


def _weighted(routes: dict[str, Any]) -> list[dict[str, Any]]:
    found = routes["resources"][0]["virtual_hosts"][0]["routes"]
    return [route for route in found if "weighted_clusters" in route.get("route", {})]


if __name__ == "__main__":
    for file, value in rendered().items():
        (GOLDEN / file).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
