"""The kinds of objects this driver touches, and nothing that has to be discovered.

A table instead of discovery: a start costs no request, and nothing is cached in a folder that others can write to.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """One resource of the API. ``is_namespaced`` false: nodes, namespaces."""

    group: str
    version: str
    kind: str
    plural: str
    is_namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


CONFIG_MAP = Kind("", "v1", "ConfigMap", "configmaps")
SERVICE = Kind("", "v1", "Service", "services")
SERVICE_ACCOUNT = Kind("", "v1", "ServiceAccount", "serviceaccounts")
SECRET = Kind("", "v1", "Secret", "secrets")
POD = Kind("", "v1", "Pod", "pods")
EVENT = Kind("", "v1", "Event", "events")
QUOTA = Kind("", "v1", "ResourceQuota", "resourcequotas")
LIMIT_RANGE = Kind("", "v1", "LimitRange", "limitranges")
NODE = Kind("", "v1", "Node", "nodes", is_namespaced=False)
NAMESPACE = Kind("", "v1", "Namespace", "namespaces", is_namespaced=False)
DEPLOYMENT = Kind("apps", "v1", "Deployment", "deployments")
JOB = Kind("batch", "v1", "Job", "jobs")
AUTOSCALER = Kind("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
BUDGET = Kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")
NETWORK_POLICY = Kind("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies")
HTTP_ROUTE = Kind("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes")
VIRTUAL_SERVICE = Kind("networking.istio.io", "v1", "VirtualService", "virtualservices")
DESTINATION_RULE = Kind("networking.istio.io", "v1", "DestinationRule", "destinationrules")
INFERENCE_SERVICE = Kind("serving.kserve.io", "v1beta1", "InferenceService", "inferenceservices")
ACCESS_REVIEW = Kind(
    "authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", is_namespaced=False
)

KINDS = {
    (kind.api_version, kind.kind): kind
    for kind in (
        CONFIG_MAP,
        SERVICE,
        SERVICE_ACCOUNT,
        SECRET,
        POD,
        EVENT,
        QUOTA,
        LIMIT_RANGE,
        NODE,
        NAMESPACE,
        DEPLOYMENT,
        JOB,
        AUTOSCALER,
        BUDGET,
        NETWORK_POLICY,
        HTTP_ROUTE,
        VIRTUAL_SERVICE,
        DESTINATION_RULE,
        INFERENCE_SERVICE,
        ACCESS_REVIEW,
    )
}
"""By apiVersion and kind, as a manifest names them."""


def kind_of(manifest: dict[str, object]) -> Kind:
    return KINDS[(str(manifest["apiVersion"]), str(manifest["kind"]))]
