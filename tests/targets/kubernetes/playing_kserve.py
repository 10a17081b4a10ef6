"""Plays KServe's controller, as the fake kubelet plays nodes: it is not KServe. From its source it has what the driver
relies on: names and labels of Deployments, which status it writes, and how Knative chooses revisions.

Labels and annotations of an InferenceService go into its pods, and the predictor's own win. Standard mode: one
Deployment per predictor, ``{service}-{predictor}-predictor``; only canaries that are ready get traffic. Knative mode: a
template that was not there before is a new revision; without ``canaryTrafficPercent`` everything goes to the newest
revision that is ready, with it the rest goes to the one that was rolled out before.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kubernetes import client

from tests.targets.kubernetes.calling import MERGE, Calling

JSON = dict[str, Any]
APPLY = "application/apply-patch+yaml"
KINDS = "/apis/serving.kserve.io/v1beta1"
EXTENSION = ("name", "minReplicas", "maxReplicas", "canaryTrafficPercent", "labels", "annotations")
MODE = "serving.kserve.io/deploymentMode"


def resource_definition() -> JSON:
    """As small as the one that KServe ships as minimal: any spec is taken, status is apart."""
    loose = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {
        "type": "object",
        "properties": {"spec": {**loose, "x-kubernetes-map-type": "atomic"}, "status": loose},
    }
    version = {
        "name": "v1beta1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
    }
    names = {"kind": "InferenceService", "plural": "inferenceservices", "singular": "inferenceservice"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "inferenceservices.serving.kserve.io"},
        "spec": {"group": "serving.kserve.io", "scope": "Namespaced", "names": names, "versions": [version]},
    }


@contextmanager
def playing_kserve(cluster: Calling, namespace: str) -> Iterator[PlayedKServe]:
    played = PlayedKServe(cluster, namespace)
    thread = threading.Thread(target=played.run, daemon=True)
    thread.start()
    try:
        yield played
    finally:
        played.stop.set()
        thread.join(40)
        assert not played.faults


class PlayedKServe:
    """``templates`` counts the different pod templates of each Deployment: a second one would have restarted it."""

    def __init__(self, cluster: Calling, namespace: str) -> None:
        self.cluster, self.namespace = cluster, namespace
        self.stop = threading.Event()
        self.templates: dict[str, set[str]] = {}
        self.faults: list[str] = []
        self._revisions: dict[str, list[str]] = {}
        self._rolled_out: dict[str, str] = {}

    def run(self) -> None:
        while not self.stop.wait(0.2):
            try:
                for item in self.cluster.call("GET", f"{KINDS}/namespaces/{self.namespace}/inferenceservices")["items"]:
                    self._reconcile(item)
            except (client.ApiException, OSError):
                continue
            except (AssertionError, KeyError) as error:
                self.faults.append(repr(error))
                return

    def _reconcile(self, service: JSON) -> None:
        is_knative = service["metadata"]["annotations"][MODE] == "Knative"
        status = self._knative(service) if is_knative else self._standard(service)
        status["observedGeneration"] = service["metadata"]["generation"]
        if (service.get("status") or {}) != status:
            name = service["metadata"]["name"]
            path = f"{KINDS}/namespaces/{self.namespace}/inferenceservices/{name}/status"
            self.cluster.call("PATCH", path, {"status": {"canaryStatuses": None, "components": None, **status}}, MERGE)

    def _standard(self, service: JSON) -> JSON:
        spec, name = service["spec"], service["metadata"]["name"]
        self._refuse(spec)
        stable = spec["predictor"]
        wanted = {f"{name}-{stable['name']}-predictor"}
        is_ready = self._deployed(service, stable, f"{name}-{stable['name']}-predictor") > 0
        told = []
        for item in spec.get("canary") or ():
            called = f"{name}-{item['predictor']['name']}-predictor"
            wanted.add(called)
            up = self._deployed(service, item["predictor"], called) > 0
            told.append({"name": item["predictor"]["name"], "ready": up, "trafficPercent": item["trafficPercent"]})
        self._sweep(name, wanted)
        conditions = [_condition("Ready", is_ready, "PredictorNotReady")]
        if told:
            every = all(item["ready"] for item in told)
            conditions.append(_condition("CanaryPredictorReady", every, "CanariesNotReady"))
        return {"conditions": conditions, **({"canaryStatuses": told} if told else {})}

    def _refuse(self, spec: JSON) -> None:
        """What KServe's admission refuses; here it is a fault of the driver."""
        stable, names = spec["predictor"], [spec["predictor"]["name"]]
        assert "canaryTrafficPercent" not in stable, "ignored in standard mode"
        for item in spec.get("canary") or ():
            predictor = item["predictor"]
            names.append(predictor["name"])
            assert "maxReplicas" not in predictor, "a canary has fixed replicas"
            assert predictor["minReplicas"] <= stable["minReplicas"]
            env = {one["name"] for one in stable["containers"][0]["env"]}
            assert "STORAGE_URI" in env, "canary requires a stable predictor with a model"
        assert len(names) == len(set(names))
        assert sum(item["trafficPercent"] for item in spec.get("canary") or ()) <= 100

    def _knative(self, service: JSON) -> JSON:
        spec, name = service["spec"]["predictor"], service["metadata"]["name"]
        assert "canary" not in service["spec"], "canary is only supported in Standard deployment mode"
        seen = self._revisions.setdefault(name, [])
        text = json.dumps(_template(service, spec, ""), sort_keys=True)
        if not seen or seen[-1] != text:
            seen.append(text)
        ready = []
        for number, known in enumerate(seen, 1):
            called = f"{name}-predictor-{number:05}"
            if self._apply(f"{called}-deployment", json.loads(known), spec["minReplicas"]) > 0:
                ready.append(called)
        newest, latest = f"{name}-predictor-{len(seen):05}", ready[-1] if ready else ""
        percent = spec.get("canaryTrafficPercent")
        before = self._rolled_out.get(name, "")
        traffic = []
        if latest:
            share = 100 if percent is None or not before or before == latest else percent
            traffic = [{"revisionName": latest, "latestRevision": True, "percent": share}]
            traffic += [{"revisionName": before, "tag": "prev", "percent": 100 - share}] if share < 100 else []
            if percent is None and latest == newest:
                self._rolled_out[name] = latest
        component = {"latestCreatedRevision": newest, "latestReadyRevision": latest, "traffic": traffic}
        conditions = [_condition("Ready", latest == newest, "RevisionMissing")]
        return {"conditions": conditions, "components": {"predictor": component}}

    def _deployed(self, service: JSON, predictor: JSON, called: str) -> int:
        return self._apply(called, _template(service, predictor, called), predictor["minReplicas"])

    def _apply(self, called: str, template: JSON, replicas: int) -> int:
        """The Deployment is there; returns its available pods."""
        self.templates.setdefault(called, set()).add(
            hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()
        )
        path = f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{called}"
        labels = {**template["metadata"]["labels"], "app": called}
        body = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": called, "labels": labels},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": called}},
                "template": {**template, "metadata": {**template["metadata"], "labels": labels}},
            },
        }
        made = self.cluster.call("PATCH", path + "?fieldManager=kserve&force=true", body, APPLY)
        return int((made.get("status") or {}).get("availableReplicas", 0))

    def _sweep(self, service: str, wanted: set[str]) -> None:
        base = f"/apis/apps/v1/namespaces/{self.namespace}/deployments"
        selector = f"?labelSelector=serving.kserve.io/inferenceservice={service}"
        for item in self.cluster.call("GET", base + selector)["items"]:
            if item["metadata"]["name"] not in wanted:
                self.cluster.ask("DELETE", f"{base}/{item['metadata']['name']}", {"propagationPolicy": "Background"})


def _template(service: JSON, predictor: JSON, called: str) -> JSON:
    meta = service["metadata"]
    mark = {"serving.kserve.io/inferenceservice": meta["name"], "component": "predictor"}
    labels = {**(meta.get("labels") or {}), **(predictor.get("labels") or {}), **mark}
    notes = {**(meta.get("annotations") or {}), **(predictor.get("annotations") or {})}
    pod = {key: value for key, value in predictor.items() if key not in EXTENSION}
    return {"metadata": {"labels": labels, "annotations": notes}, "spec": pod}


def _condition(kind: str, is_true: bool, reason: str) -> JSON:
    return {"type": kind, "status": "True" if is_true else "False", **({} if is_true else {"reason": reason})}
