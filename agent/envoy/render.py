"""Route plans -> Envoy's xDS files. Pure: the same views give the same bytes.

Names in Envoy: cluster `<endpoint>/<key>` holds all replicas of a variant; `<endpoint>/<key>/fo` is the aggregate of
the variant and its failover target ("/" cannot occur in a key, so no variant can be named like an aggregate).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from agent.envoy.access_log import access_log, unserved_log
from agent.envoy.view import EndpointView, GatewaySettings, Host
from agent.plan import ALL_BP, Route

ROUTE_CONFIG = "pilothouse"
STAT_PREFIX = "gateway"
VARIANT_HEADER = "x-pilothouse-variant"
ARM_HEADER = "x-pilothouse-arm"
PROBE_HEADER = "x-pilothouse-probe"
BUCKETS_MS = [1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000]
TIMEOUT_MARGIN_SECONDS = 5.0
# Said by a serving process that is still loading: the model has not seen the request, so it may be sent again.
LOADING_HEADER = "x-pilothouse-loading"
# What the variants see as host, whatever a caller sent: a copy for a mirror is known by the "-shadow" that Envoy adds
# to it, and a caller that names itself so must not have its requests taken for copies, which no gate counts.
UPSTREAM_HOST = "pilothouse"


def type_url(name: str) -> str:
    return f"type.googleapis.com/{name}"


_CLUSTER = type_url("envoy.config.cluster.v3.Cluster")
_ROUTES = type_url("envoy.config.route.v3.RouteConfiguration")


def cluster_name(endpoint: str, key: str) -> str:
    return f"{endpoint}/{key}"


def failover_name(endpoint: str, key: str) -> str:
    return f"{endpoint}/{key}/fo"


def version_of(resources: list[dict[str, Any]]) -> str:
    """16 hex digits over the content: Envoy repeats it in its stats, so an acknowledgement names what it accepted."""
    return hashlib.sha256(json.dumps(resources, sort_keys=True).encode()).hexdigest()[:16]


def _discovery(resources: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return {"version_info": version_of(resources), "type_url": kind, "resources": resources}


def _seconds(value: float) -> str:
    return f"{value:.3f}s"


# ---- clusters


def render_clusters(views: Iterable[EndpointView]) -> dict[str, Any]:
    """The CDS file (a DiscoveryResponse) with every variant's cluster and the aggregates its route needs."""
    resources: list[dict[str, Any]] = []
    for view in sorted(views, key=lambda v: v.endpoint):
        resources += [_variant_cluster(view, key) for key in sorted(view.clusters)]
        resources += [_failover_cluster(view.endpoint, key, target) for key, target in sorted(_failovers(view))]
    return _discovery(resources, _CLUSTER)


def _failovers(view: EndpointView) -> list[tuple[str, str]]:
    target = view.route.failover_to if view.route else None
    if view.route is None or target is None or target not in view.clusters:
        return []
    return [(key, target) for key, weight in view.route.weights_bp.items() if weight > 0 and key != target]


def _variant_cluster(view: EndpointView, key: str) -> dict[str, Any]:
    """The processes of one variant, and what takes them out of rotation.

    A host that is out answers at once with 503, which is right where another can step in or where it hangs. The only
    process of a variant that has ended and is being started again is worth a moment's wait instead: its cluster has
    no checks until it is back, so every request is tried again until the process takes it (`_RETRY`) or time is up.
    """
    name, hosts = cluster_name(view.endpoint, key), view.clusters[key]
    has_failover = key in dict(_failovers(view))
    cluster: dict[str, Any] = {
        "@type": _CLUSTER,
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "lb_policy": "LEAST_REQUEST",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [_lb_endpoint(h) for h in sorted(hosts, key=lambda h: h.port)]}],
        },
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "circuit_breakers": {"thresholds": [_BREAKER]},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": _UPSTREAM_HTTP},
    }
    if has_failover or key not in view.returning:
        cluster["health_checks"] = [_HEALTH_CHECK]
    if has_failover or len(hosts) > 1:
        cluster["outlier_detection"] = _OUTLIER
    return cluster


# Without no_traffic_interval an idle variant is checked once a minute, and its death is noticed by a caller.
_HEALTH_CHECK = {
    "timeout": "2s",
    "interval": "1s",
    "no_traffic_interval": "1s",
    "no_traffic_healthy_interval": "1s",
    "unhealthy_threshold": 2,
    "healthy_threshold": 1,
    "http_health_check": {"path": "/v2/health/ready"},
}
# Only failures to reach a process eject it. A model that answers 500 to everything stays in: ejecting it would fail
# over to the stable variant and hide the very errors a rollout's gate looks for.
_OUTLIER = {
    "interval": "0.5s",
    "base_ejection_time": "2s",
    "max_ejection_time": "10s",
    "max_ejection_percent": 100,
    "split_external_local_origin_errors": True,
    "consecutive_local_origin_failure": 3,
    "enforcing_consecutive_local_origin_failure": 100,
    "enforcing_consecutive_5xx": 0,
    "enforcing_consecutive_gateway_failure": 0,
    "enforcing_success_rate": 0,
    "enforcing_local_origin_success_rate": 0,
}
_BREAKER = {"max_connections": 10000, "max_pending_requests": 10000, "max_requests": 10000, "max_retries": 1000}
# Shorter than any serving program keeps an idle connection (ours an hour, uvicorn by itself 5 s): otherwise a request
# can go out on a connection that is just being closed, and a request that was already sent is not repeated.
_UPSTREAM_HTTP = {
    "@type": type_url("envoy.extensions.upstreams.http.v3.HttpProtocolOptions"),
    "common_http_protocol_options": {"idle_timeout": "3s"},
    "explicit_http_config": {"http_protocol_options": {}},
}


def _lb_endpoint(host: Host) -> dict[str, Any]:
    return {"endpoint": {"address": {"socket_address": {"address": host.address, "port_value": host.port}}}}


def _failover_cluster(endpoint: str, key: str, target: str) -> dict[str, Any]:
    return {
        "@type": _CLUSTER,
        "name": failover_name(endpoint, key),
        "connect_timeout": "1s",
        "lb_policy": "CLUSTER_PROVIDED",
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "circuit_breakers": {"thresholds": [_BREAKER]},
        "cluster_type": {
            "name": "envoy.clusters.aggregate",
            "typed_config": {
                "@type": type_url("envoy.extensions.clusters.aggregate.v3.ClusterConfig"),
                "clusters": [cluster_name(endpoint, key), cluster_name(endpoint, target)],
            },
        },
    }


# ---- routes


def render_routes(views: Iterable[EndpointView]) -> dict[str, Any]:
    """The RDS file (a DiscoveryResponse) with one route table for all endpoints."""
    routes: list[dict[str, Any]] = []
    for view in sorted(views, key=lambda v: v.endpoint):
        routes += _endpoint_routes(view)
    routes.append(
        {"match": {"prefix": "/"}} | _problem(404, "unknown_endpoint", "No endpoint of this gateway has this path.")
    )
    table = {
        "@type": _ROUTES,
        "name": ROUTE_CONFIG,
        "validate_clusters": True,
        "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}],
    }
    return _discovery([table], _ROUTES)


def _endpoint_routes(view: EndpointView) -> list[dict[str, Any]]:
    prefix = f"/serve/{view.endpoint}/"
    period = view.route.period if view.route else 0
    routes: list[dict[str, Any]] = []
    for key in sorted(view.clusters):
        header = {"name": VARIANT_HEADER, "string_match": {"exact": key}}
        action = {"cluster": cluster_name(view.endpoint, key)} | _common_action(view)
        routes.append(_forward(prefix, [header], action, "forced", period))
    unknown = {"prefix": prefix, "headers": [{"name": VARIANT_HEADER, "present_match": True}]}
    detail = f"Endpoint {view.endpoint} has no variant of the name in {VARIANT_HEADER}."
    routes.append({"match": unknown} | _problem(404, "unknown_variant", detail))
    if view.route is None:
        detail = f"Endpoint {view.endpoint} has no variant that was ready yet."
        routes.append({"match": {"prefix": prefix}} | _problem(503, "no_route", detail, is_retryable=True))
    else:
        routes += _arm_routes(view, view.route, prefix)
        routes.append(_forward(prefix, [], _weighted_action(view, view.route), "weighted", period))
    return routes


def _arm_routes(view: EndpointView, route: Route, prefix: str) -> list[dict[str, Any]]:
    """One exact match per signed value. A value that is none of them is no arm: it falls through to the weights.

    Without failover: the answer of another variant under this arm's name would be counted for the wrong arm.
    """
    found = []
    for value, key in sorted(route.arms.items()):
        header = {"name": ARM_HEADER, "string_match": {"exact": value}}
        action = {"cluster": cluster_name(view.endpoint, key)} | _common_action(view)
        found.append(_forward(prefix, [header], action, "assigned", route.period))
    return found


def _forward(
    prefix: str, headers: list[dict[str, Any]], action: dict[str, Any], route: str, period: int
) -> dict[str, Any]:
    forward: dict[str, Any] = {
        # What the log of unserved requests knows of them: headers are added only where there is somebody to send to.
        "name": f"{route}/{period}",
        "match": {"prefix": prefix} | ({"headers": headers} if headers else {}),
        "route": action,
        "request_headers_to_add": [_overwrite("x-pilothouse-route", route), _overwrite("x-pilothouse-period", period)],
    }
    if route in {"weighted", "assigned"}:
        forward["request_headers_to_remove"] = [PROBE_HEADER]
    return forward


def _overwrite(name: str, value: object) -> dict[str, Any]:
    return {"header": {"key": name, "value": str(value)}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _common_action(view: EndpointView) -> dict[str, Any]:
    limit = _seconds(view.timeout_seconds + TIMEOUT_MARGIN_SECONDS)
    return {
        "prefix_rewrite": "/",
        "host_rewrite_literal": UPSTREAM_HOST,
        "append_x_forwarded_host": True,
        "timeout": limit,
        "idle_timeout": limit,
        "retry_policy": _RETRY,
    }


# Only what happened before the model saw the request: a prediction may have side effects. So many times with at most
# a second between them that the route's timeout ends it, not the count.
_RETRY = {
    "retry_on": "connect-failure,refused-stream,reset-before-request,retriable-headers",
    "retriable_headers": [{"name": LOADING_HEADER, "present_match": True}],
    "num_retries": 1000,
    "retry_back_off": {"base_interval": "0.05s", "max_interval": "1s"},
    "retry_host_predicate": [
        {
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {"@type": type_url("envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate")},
        }
    ],
    "host_selection_retry_max_attempts": 3,
    "retry_priority": {
        "name": "envoy.retry_priorities.previous_priorities",
        "typed_config": {
            "@type": type_url("envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"),
            "update_frequency": 1,
        },
    },
}


def _weighted_action(view: EndpointView, route: Route) -> dict[str, Any]:
    with_failover = dict(_failovers(view))
    clusters = [
        {
            "name": failover_name(view.endpoint, key) if key in with_failover else cluster_name(view.endpoint, key),
            "weight": weight,
        }
        # Sorted by key, so that under a sticky header a growing share only ever gains callers.
        for key, weight in sorted(route.weights_bp.items())
        if weight > 0
    ]
    action: dict[str, Any] = {"weighted_clusters": {"clusters": clusters}} | _common_action(view)
    if route.sticky_header:
        action["hash_policy"] = [{"header": {"header_name": route.sticky_header}}]
        action["weighted_clusters"]["use_hash_policy"] = True
    if route.mirror and route.mirror.fraction_bp > 0:
        fraction = {"numerator": route.mirror.fraction_bp, "denominator": "TEN_THOUSAND"}
        action["request_mirror_policies"] = [
            {
                "cluster": cluster_name(view.endpoint, route.mirror.variant),
                "runtime_fraction": {"default_value": fraction},
            }
        ]
    if (total := sum(route.weights_bp.values())) != ALL_BP:
        raise ValueError(f"weights of {view.endpoint} sum to {total}, not {ALL_BP}")
    return action


def _problem(status: int, code: str, detail: str, *, is_retryable: bool = False) -> dict[str, Any]:
    body = {
        "type": f"urn:pilothouse:problem:{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        "code": code,
        "detail": detail,
        "retryable": is_retryable,
    }
    return {
        "direct_response": {"status": status, "body": {"inline_string": json.dumps(body)}},
        "response_headers_to_add": [_overwrite("content-type", "application/problem+json")],
    }


# ---- bootstrap


def render_bootstrap(settings: GatewaySettings) -> dict[str, Any]:
    """The file Envoy starts with; it never changes while an agent's ports do not."""
    buckets = {"match": {"prefix": "cluster."}, "buckets": BUCKETS_MS}
    return {
        "node": {"id": settings.node_id, "cluster": "pilothouse"},
        "admin": {"address": _socket("127.0.0.1", settings.admin_port)},
        "stats_config": {"histogram_bucket_settings": [buckets]},
        "dynamic_resources": {"cds_config": _file(settings.cds_path)},
        "static_resources": {"listeners": [_listener(settings)]},
    }


def _socket(address: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": address, "port_value": port}}


def _file(path: str) -> dict[str, Any]:
    return {"resource_api_version": "V3", "path_config_source": {"path": path}}


def _listener(settings: GatewaySettings) -> dict[str, Any]:
    manager = _connection_manager(settings)
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    return {
        "name": "gateway",
        "address": _socket(settings.host, settings.port),
        # With SO_REUSEPORT a second Envoy on this port would start without a word and take half the requests.
        "enable_reuse_port": False,
        "filter_chains": [chain],
    }


def _connection_manager(settings: GatewaySettings) -> dict[str, Any]:
    manager: dict[str, Any] = {
        "@type": type_url("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": STAT_PREFIX,
        "use_remote_address": True,
        # Nobody is internal: a caller must not steer retries or timeouts with x-envoy-* headers.
        "internal_address_config": {"cidr_ranges": [{"address_prefix": "255.255.255.255", "prefix_len": 32}]},
        "preserve_external_request_id": True,
        "normalize_path": True,
        "request_id_extension": {
            "typed_config": {
                "@type": type_url("envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig"),
                "pack_trace_reason": False,
            }
        },
        "rds": {"route_config_name": ROUTE_CONFIG, "config_source": _file(settings.rds_path)},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": type_url("envoy.extensions.filters.http.router.v3.Router"),
                    "suppress_envoy_headers": True,
                },
            }
        ],
    }
    manager["access_log"] = [unserved_log(settings.unserved_log_path)]
    if settings.access_log_path:
        manager["access_log"].append(access_log(settings.access_log_path))
    return manager
