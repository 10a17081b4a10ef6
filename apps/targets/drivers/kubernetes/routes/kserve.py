"""KServe: the manifest of an InferenceService for a plan, and what of a plan KServe cannot honour. Pure.

KServe brings its own serving stack: it makes Deployments and routes itself, so it is no ``Router`` beside ours but
another way to make an endpoint. This is that way's rendering; the driver does not apply it yet.

Two modes, two fields. *Knative*: one predictor, ``canaryTrafficPercent`` is the share of its newest revision, whole
percents, and the rest goes to the revision rolled out before. *Standard*, from KServe 0.20: ``spec.canary`` lists
further predictors with their shares; there ``canaryTrafficPercent`` is silently ignored, so it is never sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from apps.targets.domain.driver import Capabilities, Support
from apps.targets.domain.plan import EndpointPlan, VariantSpec
from apps.targets.drivers.kubernetes.names import Workload, endpoint_object_name, labels_of
from apps.targets.drivers.kubernetes.render.pod import pod_spec
from apps.targets.drivers.kubernetes.resources import INFERENCE_SERVICE
from apps.targets.drivers.kubernetes.routes.base import Manifest, refuse, refuse_stickiness
from apps.targets.drivers.kubernetes.settings import KubernetesSettings

PERCENT_BP = 100
KNATIVE, STANDARD = "knative", "standard"


@dataclass(frozen=True, slots=True)
class KServeSeen:
    """What the status says: shares by revision or predictor name in percent, and one sentence on a failed load."""

    percents: Mapping[str, int]
    is_ready: bool
    problem: str = ""


def capabilities(mode: str) -> Capabilities:
    note = f"KServe, {mode} mode: whole percents"
    return Capabilities(Support.EXACT, Support.NO, Support.NO, Support.NO, min_weight_bp=PERCENT_BP, note=note)


def check(plan: EndpointPlan, mode: str) -> None:
    """Raises PlanRefused naming the field."""
    refuse_stickiness(plan, "KServe")
    if plan.route.mirror is not None:
        raise refuse("/route/mirror", "not_supported", "KServe cannot mirror requests.")
    if mode == KNATIVE and len(plan.variants) > 2:
        raise refuse("/variants", "too_many", "KServe in Knative mode splits between two revisions, no more.")
    for key, weight in plan.route.weights_bp.items():
        if weight % PERCENT_BP:
            detail = f"{weight / PERCENT_BP:g} % is no whole percent, and KServe knows no smaller steps."
            raise refuse(f"/route/weights_bp/{key}", "too_fine", detail)
    stable = _stable(plan)
    for spec in plan.variants:
        if mode == STANDARD and spec.key != stable.key and spec.replicas > stable.replicas:
            detail = f"KServe takes no canary with more replicas ({spec.replicas}) than stable ({stable.replicas})."
            raise refuse("/variants/replicas", "too_many", detail)


def inference_service(plan: EndpointPlan, settings: KubernetesSettings, names: Mapping[str, Workload]) -> Manifest:
    """Of a plan that ``check`` has passed. Without a canary the field is absent, never zero: a value that is left
    behind after a promotion would pin the next version."""
    mode, stable = settings.route.kserve_mode, _stable(plan)
    others = [spec for spec in plan.variants if spec.key != stable.key]
    account = endpoint_object_name(plan.endpoint)
    spec: dict[str, Any]
    if mode == KNATIVE and others:
        # the newest revision is the candidate; KServe keeps the one before it for the rest
        predictor = _predictor(names[others[0].key], account)
        spec = {"predictor": {**predictor, "canaryTrafficPercent": plan.weight_bp(others[0].key) // PERCENT_BP}}
    else:
        spec = {"predictor": _predictor(names[stable.key], account)}
        if others:
            spec["canary"] = [
                {
                    "trafficPercent": plan.weight_bp(other.key) // PERCENT_BP,
                    "predictor": {"name": names[other.key].name, **_predictor(names[other.key], account)},
                }
                for other in others
            ]
    return {
        "apiVersion": INFERENCE_SERVICE.api_version,
        "kind": INFERENCE_SERVICE.kind,
        "metadata": {
            "name": endpoint_object_name(plan.endpoint),
            "namespace": settings.namespace,
            "labels": labels_of(plan, "route"),
            "annotations": {"serving.kserve.io/deploymentMode": "Knative" if mode == KNATIVE else "Standard"},
        },
        "spec": spec,
    }


def seen(live: Manifest) -> KServeSeen:
    status = live.get("status") or {}
    conditions = {item["type"]: item for item in status.get("conditions") or ()}
    percents: dict[str, int] = {}
    for item in ((status.get("components") or {}).get("predictor") or {}).get("traffic") or ():
        percents[str(item.get("revisionName", ""))] = int(item.get("percent", 0))
    for item in status.get("canaryStatuses") or ():
        percents[str(item.get("name", ""))] = int(item.get("trafficPercent", 0))
    model = status.get("modelStatus") or {}
    problem = ""
    if model.get("transitionStatus") in {"BlockedByFailedLoad", "InvalidSpec"}:
        failure = model.get("lastFailureInfo") or {}
        said = failure.get("message") or failure.get("reason") or "without a reason"
        problem = f"KServe cannot load the model ({model['transitionStatus']}): {said}"
    is_ready = conditions.get("Ready", {}).get("status") == "True" and not problem
    return KServeSeen(percents, is_ready, problem)


def _stable(plan: EndpointPlan) -> VariantSpec:
    return plan.stable or plan.variants[0]


def _predictor(workload: Workload, account: str) -> dict[str, Any]:
    """A custom predictor with our own server: the same pod as everywhere else."""
    pod = pod_spec(workload, account)
    containers = [{**container, "name": "kserve-container"} for container in pod["containers"]]
    count = workload.spec.replicas
    return {**pod, "containers": containers, "minReplicas": count, "maxReplicas": count, "labels": workload.selector}
