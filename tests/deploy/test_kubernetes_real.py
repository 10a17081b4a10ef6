"""deploy/ asked of a real API server: every manifest by a dry run, every pod under the level of its namespace.

What cannot be seen here: images, volumes, an ingress controller.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import ApiException

from tests.deploy.kustomize import Manifest, built, folders, pod_of
from tests.targets.kubernetes.cluster import Cluster, missing, real_cluster

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(bool(missing()), reason=f"no Kubernetes API server: {missing()}"),
    pytest.mark.timeout(600),
]
PLURALS = {
    "Namespace": "namespaces", "ServiceAccount": "serviceaccounts", "Service": "services", "ConfigMap": "configmaps",
    "PersistentVolumeClaim": "persistentvolumeclaims", "ResourceQuota": "resourcequotas", "Deployment": "deployments",
    "StatefulSet": "statefulsets", "Job": "jobs", "PodDisruptionBudget": "poddisruptionbudgets",
    "NetworkPolicy": "networkpolicies", "Ingress": "ingresses", "Role": "roles", "RoleBinding": "rolebindings",
    "ClusterRole": "clusterroles", "ClusterRoleBinding": "clusterrolebindings",
}  # fmt: skip
APPLY = "application/apply-patch+yaml"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A server with the namespaces and accounts of deploy/ really there: the rest is asked for inside them."""
    with real_cluster(tmp_path_factory.mktemp("k8s"), nodes=1) as found:
        real = [item for folder in folders() for item in built(folder)]
        for kind in ("Namespace", "ServiceAccount"):
            for item in real:
                if item["kind"] == kind:
                    apply(found, item, dry=False)
        yield found


def apply(cluster: Cluster, item: Manifest, *, dry: bool = True) -> Any:
    group = item["apiVersion"]
    root = f"/api/{group}" if "/" not in group else f"/apis/{group}"
    meta = item["metadata"]
    inside = f"/namespaces/{meta['namespace']}" if "namespace" in meta else ""
    query = f"?fieldManager=test&force=true&fieldValidation=Strict{'&dryRun=All' if dry else ''}"
    return cluster.call("PATCH", f"{root}{inside}/{PLURALS[item['kind']]}/{meta['name']}{query}", item, APPLY)


@pytest.mark.parametrize("folder", folders(), ids=lambda path: path.name)
def test_every_manifest_is_taken_with_strict_field_checks(cluster: Cluster, folder: Path) -> None:
    refused = []
    for item in built(folder):
        try:
            apply(cluster, item)
        except ApiException as error:
            refused.append(f"{item['kind']} {item['metadata']['name']}: {error.body}")
    assert refused == []


@pytest.mark.parametrize("folder", folders(), ids=lambda path: path.name)
def test_every_pod_is_taken_by_the_level_that_its_namespace_enforces(cluster: Cluster, folder: Path) -> None:
    for item in built(folder):
        pod = pod_of(item)
        if pod is None:
            continue
        claims = item["spec"].get("volumeClaimTemplates", ())  # a set gives its pods volumes by these names
        volumes = [*pod["volumes"], *({"name": one["metadata"]["name"], "emptyDir": {}} for one in claims)]
        meta = {"name": "x", "labels": item["spec"]["template"]["metadata"]["labels"]}
        place = f"/api/v1/namespaces/{item['metadata']['namespace']}/pods?dryRun=All"
        cluster.call(
            "POST", place, {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {**pod, "volumes": volumes}}
        )


def test_a_pod_that_would_be_root_is_refused_there(cluster: Cluster) -> None:
    """So that the test above can fail: the level really is enforced."""
    pod = {"serviceAccountName": "pilothouse", "containers": [{"name": "x", "image": "x:1"}]}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod}
    with pytest.raises(ApiException) as refused:
        cluster.call("POST", "/api/v1/namespaces/pilothouse/pods?dryRun=All", body)
    assert refused.value.status == 403
    assert "violates PodSecurity" in str(refused.value.body)
