"""Single requests whose answers the driver relies on, and what is kept of the answers.

Each is a function of a cluster and a namespace of its own; what it returns must be the same at a real API server and at
the one made of memory. Kept are statuses, reasons, conflicting fields with their owners, and what follows from an
answer; not texts, times or ids.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from kubernetes import client

JSON = dict[str, Any]
APPLY, MERGE = "application/apply-patch+yaml", "application/merge-patch+json"
OURS = "?fieldManager=pilothouse"
EXCHANGES: dict[str, Callable[[Any, str], Any]] = {}


def exchange(told: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    EXCHANGES[told.__name__] = told
    return told


def kept(answer: tuple[int, JSON, JSON]) -> JSON:
    status, headers, body = answer
    if status == 200:
        return {"ok": True}
    causes = [
        {"field": item.get("field"), "manager": str(item.get("message", "")).split('"')[1::2][:1]}
        for item in (body.get("details") or {}).get("causes") or ()
        if item.get("reason") == "FieldManagerConflict"
    ]
    found: JSON = {"status": status, "reason": body.get("reason"), "kind": body.get("kind")}
    found |= {"conflicts": causes} if causes else {}
    found |= {"says_when": True} if "retry-after" in headers else {}
    return found


def maps(namespace: str, name: str = "") -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps" + (f"/{name}" if name else "")


def config_map(name: str, **data: str) -> JSON:
    labels = {"app.kubernetes.io/managed-by": "pilothouse"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": data}


def deployment(name: str, replicas: int | None) -> JSON:
    pod = {"containers": [{"name": "server", "image": "example.com/m:1"}]}
    spec: JSON = {
        "selector": {"matchLabels": {"x": name}},
        "template": {"metadata": {"labels": {"x": name}}, "spec": pod},
    }
    if replicas is not None:
        spec["replicas"] = replicas
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


@exchange
def what_is_not_there(cluster: Any, namespace: str) -> Any:
    return [
        kept(cluster.ask("GET", maps(namespace, "none"))),
        kept(cluster.ask("DELETE", maps(namespace, "none"))),
        kept(cluster.ask("GET", f"/apis/apps/v1/namespaces/{namespace}/deployments/none")),
    ]


@exchange
def a_name_that_is_taken(cluster: Any, namespace: str) -> Any:
    body = config_map("taken", a="1")
    made = cluster.call("POST", maps(namespace), body)
    again = kept(cluster.ask("POST", maps(namespace), body))
    return [sorted({"uid", "resourceVersion", "creationTimestamp", "namespace"} & made["metadata"].keys()), again]


@exchange
def applying_over_what_the_same_manager_created(cluster: Any, namespace: str) -> Any:
    cluster.call("POST", maps(namespace) + OURS, config_map("own", a="1"))
    path = maps(namespace, "own") + OURS
    refused = cluster.ask("PATCH", path, config_map("own", a="2"), APPLY)
    forced = cluster.ask("PATCH", path + "&force=true", config_map("own", a="2"), APPLY)
    return [kept(refused), kept(forced), forced[2]["data"]]


@exchange
def applying_the_same_again(cluster: Any, namespace: str) -> Any:
    path = maps(namespace, "same") + OURS
    first = cluster.call("PATCH", path, config_map("same", a="1"), APPLY)
    second = cluster.call("PATCH", path, config_map("same", a="1"), APPLY)
    third = cluster.call("PATCH", path, config_map("same", a="2"), APPLY)
    versions = [item["metadata"]["resourceVersion"] for item in (first, second, third)]
    return {"same": versions[0] == versions[1], "changed": versions[1] != versions[2]}


@exchange
def a_field_that_is_no_longer_applied(cluster: Any, namespace: str) -> Any:
    path = maps(namespace, "less") + OURS
    cluster.call("PATCH", path, config_map("less", a="1", b="2"), APPLY)
    return cluster.call("PATCH", path, config_map("less", a="1"), APPLY)["data"]


@exchange
def a_version_that_is_not_the_newest(cluster: Any, namespace: str) -> Any:
    path = maps(namespace, "old")
    first = cluster.call("PATCH", path + OURS, config_map("old", a="1"), APPLY)
    cluster.call("PATCH", path + OURS, config_map("old", a="2"), APPLY)
    version = first["metadata"]["resourceVersion"]
    stale = config_map("old", a="3")
    stale["metadata"]["resourceVersion"] = version
    missing = config_map("nowhere", a="3")
    missing["metadata"]["resourceVersion"] = version
    gone = config_map("gone", a="3")
    gone["metadata"]["uid"] = first["metadata"]["uid"]
    condition = {"preconditions": {"resourceVersion": version}}
    other = {"preconditions": {"uid": "00000000-0000-0000-0000-000000000000"}}
    return {
        "apply": kept(cluster.ask("PATCH", path + OURS, stale, APPLY)),
        "apply to nothing": kept(cluster.ask("PATCH", maps(namespace, "nowhere") + OURS, missing, APPLY)),
        "apply to nothing that had a uid": kept(cluster.ask("PATCH", maps(namespace, "gone") + OURS, gone, APPLY)),
        "replace": kept(cluster.ask("PUT", path, stale)),
        "merge": kept(cluster.ask("PATCH", path, {"metadata": {"resourceVersion": version}, "data": {}}, MERGE)),
        "delete": kept(cluster.ask("DELETE", path, condition)),
        "delete another": kept(cluster.ask("DELETE", path, other)),
        "is still": cluster.call("GET", path)["data"],
    }


@exchange
def a_dry_run(cluster: Any, namespace: str) -> Any:
    path = maps(namespace, "dry") + OURS + "&dryRun=All"
    tried = kept(cluster.ask("PATCH", path, config_map("dry", a="1"), APPLY))
    return [tried, kept(cluster.ask("GET", maps(namespace, "dry")))]


@exchange
def a_list(cluster: Any, namespace: str) -> Any:
    for name in ("l1", "l2"):
        cluster.call("PATCH", maps(namespace, name) + OURS, config_map(name, a="1"), APPLY)
    cluster.call("POST", maps(namespace), {"metadata": {"name": "stranger"}})
    found = cluster.call("GET", maps(namespace) + "?labelSelector=app.kubernetes.io/managed-by=pilothouse")
    return {
        "names": [item["metadata"]["name"] for item in found["items"]],
        "kinds": ["kind" in item for item in found["items"]],
        "version": bool(found["metadata"]["resourceVersion"]),
    }


@exchange
def a_field_that_somebody_else_set(cluster: Any, namespace: str) -> Any:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/shared"
    made = cluster.call("PATCH", path + OURS, deployment("shared", 1), APPLY)
    cluster.call("PATCH", path + "?fieldManager=kubectl-scale", {"spec": {"replicas": 2}}, MERGE)
    scaled = cluster.call("GET", path)
    refused = kept(cluster.ask("PATCH", path + OURS, deployment("shared", 1), APPLY))
    forced = cluster.call("PATCH", path + OURS + "&force=true", deployment("shared", 1), APPLY)
    generations = [item["metadata"]["generation"] for item in (made, scaled, forced)]
    return {"refused": refused, "generations": generations, "replicas": forced["spec"]["replicas"]}


@exchange
def a_number_that_is_left_to_an_autoscaler(cluster: Any, namespace: str) -> Any:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/scaled"
    cluster.call("PATCH", path + OURS, deployment("scaled", None), APPLY)
    cluster.call("PATCH", path + "/scale", {"spec": {"replicas": 3}}, MERGE)
    return cluster.call("PATCH", path + OURS, deployment("scaled", None), APPLY)["spec"]["replicas"]


@exchange
def a_list_inside_a_route(cluster: Any, namespace: str) -> Any:
    path = f"/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/httproutes/atomic"

    def route(weight: int) -> JSON:
        rules = [{"backendRefs": [{"name": "a", "port": 80, "weight": weight}]}]
        meta, version = {"name": "atomic"}, "gateway.networking.k8s.io/v1"
        return {"apiVersion": version, "kind": "HTTPRoute", "metadata": meta, "spec": {"rules": rules}}

    cluster.call("PATCH", path + OURS, route(1), APPLY)
    rules = {"spec": {"rules": route(2)["spec"]["rules"]}}
    cluster.call("PATCH", path + "?fieldManager=kubectl-edit", rules, MERGE)
    return kept(cluster.ask("PATCH", path + OURS, route(3), APPLY))


@exchange
def what_belongs_to_an_owner(cluster: Any, namespace: str) -> Any:
    owner = cluster.call("POST", maps(namespace), config_map("owner"))
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
    owned = config_map("owned")
    owned["metadata"]["ownerReferences"] = [reference]
    cluster.call("PATCH", maps(namespace, "owned") + OURS, owned, APPLY)
    cluster.call("DELETE", maps(namespace, "owner"), {"propagationPolicy": "Background"})
    for _ in range(300):
        found = kept(cluster.ask("GET", maps(namespace, "owned")))
        if "status" in found:
            return found
        time.sleep(0.1)
    return "it stayed"


@exchange
def a_watch_from_a_version_on(cluster: Any, namespace: str) -> Any:
    version = cluster.call("GET", maps(namespace))["metadata"]["resourceVersion"]
    path = maps(namespace, "seen")
    cluster.call("PATCH", path + OURS, config_map("seen", a="1"), APPLY)
    cluster.call("PATCH", path + OURS, config_map("seen", a="2"), APPLY)
    cluster.call("DELETE", path)
    api = client.ApiClient(cluster.configuration())
    url = (
        f"{maps(namespace)}?watch=true&timeoutSeconds=3&resourceVersion={version}"
        "&labelSelector=app.kubernetes.io/managed-by=pilothouse"
    )
    answer = api.call_api(
        url, "GET", {}, [], {"Accept": "application/json"}, auth_settings=["BearerToken"], _preload_content=False,
        _return_http_data_only=True, _request_timeout=30,
    )  # fmt: skip
    events = [json.loads(line) for line in answer.data.splitlines() if line.strip()]
    api.rest_client.pool_manager.clear()
    return [event["type"] for event in events if event["object"]["metadata"]["name"] == "seen"]


@exchange
def tokens_and_rights(cluster: Any, namespace: str) -> Any:
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "metadata": {},
        "spec": {"resourceAttributes": {"verb": "patch", "resource": "configmaps", "namespace": namespace}},
    }
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    short = cluster.token_for(2)
    before = kept(cluster.ask("GET", maps(namespace), token=short))
    after = before
    for _ in range(1500):  # a server allows clocks to differ by a minute
        after = kept(cluster.ask("GET", maps(namespace), token=short))
        if "status" in after:
            break
        time.sleep(0.1)
    return {
        "unknown token": kept(cluster.ask("GET", maps(namespace), token="nobody-s")),
        "a token while it lasts": before,
        "and when it has ended": after,
        "without rights": kept(cluster.ask("GET", maps(namespace), token="limited-token")),
        "asked whether": [
            cluster.ask("POST", path, review, token=token)[2]["status"]["allowed"]
            for token in ("limited-token", "admin-token")
        ],
    }


@exchange
def too_many_requests(cluster: Any, namespace: str) -> Any:
    with cluster.storm():
        for _ in range(300):
            found = kept(cluster.ask("GET", maps(namespace), token="storm-token"))
            if "status" in found:
                return found
            time.sleep(0.1)
    return "there was no storm"


@exchange
def the_log_of_nobody(cluster: Any, namespace: str) -> Any:
    return kept(cluster.ask("GET", f"/api/v1/namespaces/{namespace}/pods/none/log?container=server"))
