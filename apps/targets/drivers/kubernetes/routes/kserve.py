"""KServe: one InferenceService is the pods and the route. KServe makes the Deployments; we say which, and its share.

Two modes, two fields, and nothing else is sent. *Knative*: one predictor, ``canaryTrafficPercent`` is the share of its
newest revision, whole percents, and the rest goes to the revision rolled out before. *Standard*, from KServe 0.20:
``spec.canary`` lists further predictors with their shares, each a Deployment of its own; there ``canaryTrafficPercent``
is silently ignored, so it is never sent.

Hazards, each found in KServe's own source:

- Labels and annotations of the InferenceService go into its pods: our generation and notes would replace every pod at
  every step. What the *predictor* says wins over them, so each predictor holds those keys still (``_STILL``).
- A canary must not set ``maxReplicas``, nor more ``minReplicas`` than stable; stable must name a storage.
- Without ``canaryTrafficPercent`` Knative gives everything to the newest revision *that is ready*: going back to an
  older version, that is the bad one until the new revision of the old one is up. So it comes up at 0 % first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from apps.targets.domain.driver import Capabilities, Support
from apps.targets.domain.plan import FULL_BP, EndpointPlan, Route, VariantSpec
from apps.targets.drivers.kubernetes.drift import differences
from apps.targets.drivers.kubernetes.names import (
    APPLIED_NOTE,
    BEFORE_NOTE,
    EPOCH_NOTE,
    GENERATION,
    PART,
    ROLLOUT,
    ROUTE_NOTE,
    WORKLOAD,
    Workload,
    endpoint_object_name,
    notes_of,
)
from apps.targets.drivers.kubernetes.render.pod import pod_spec
from apps.targets.drivers.kubernetes.resources import INFERENCE_SERVICE
from apps.targets.drivers.kubernetes.routes.base import (
    Manifest,
    RouteSeen,
    base_of,
    refuse,
    refuse_stickiness,
    route_of,
)
from apps.targets.drivers.kubernetes.settings import KubernetesSettings

PERCENT_BP = 100
KNATIVE, STANDARD = "knative", "standard"
READABLE = ("s3", "gs", "pvc", "https", "http", "hf", "hdfs", "webhdfs", "oci")
STORAGE_ENV = "STORAGE_URI"
MODEL_FOLDER = "/mnt/models"
_STILL = dict.fromkeys((EPOCH_NOTE, ROUTE_NOTE, APPLIED_NOTE, BEFORE_NOTE), "-")
_LONGEST = 63 - len("-predictor-")


class KServeRouter:
    kinds = (INFERENCE_SERVICE,)
    brings_pods = True

    def __init__(self, settings: KubernetesSettings) -> None:
        self._settings = settings
        self.mode = settings.route.kserve_mode
        note = f"KServe, {self.mode} mode: whole percents, no copies, no forced version"
        self.capabilities = Capabilities(
            Support.EXACT,
            Support.NO,
            Support.NO,
            Support.NO,
            min_weight_bp=PERCENT_BP,
            note=note,
            keeps_idle=self.mode == STANDARD,
        )

    def check(self, plan: EndpointPlan) -> None:
        refuse_stickiness(plan, "KServe")
        if plan.route.mirror is not None:
            raise refuse("/route/mirror", "not_supported", "KServe cannot mirror requests.")
        if self.mode == KNATIVE and len(plan.variants) > 2:
            raise refuse("/variants", "too_many", "KServe in Knative mode splits between two revisions, no more.")
        for key, weight in plan.route.weights_bp.items():
            if weight % PERCENT_BP:
                detail = f"{weight / PERCENT_BP:g} % is no whole percent, and KServe knows no smaller steps."
                raise refuse(f"/route/weights_bp/{key}", "too_fine", detail)
        stable = _stable(plan)
        for spec in plan.variants:
            self._check_variant(plan, spec, stable)

    def replicas(self, plan: EndpointPlan) -> Mapping[str, int]:
        return {}

    def address(self, endpoint: str) -> str:
        name = endpoint_object_name(endpoint)
        settings = self._settings
        return settings.route.address or f"http://{name}-predictor.{settings.namespace}.svc.{settings.domain}"

    def render(self, plan: EndpointPlan, names: Mapping[str, Workload], leaving: Sequence[str]) -> list[Manifest]:
        """As it is meant in the end; ``advance`` says how it gets there."""
        return [self._manifest(plan, names, self._final(plan, names), plan.route.weights_bp)]

    def advance(
        self,
        plan: EndpointPlan,
        names: Mapping[str, Workload],
        live: Manifest | None,
        *,
        is_waiting: bool,
        leaving: Sequence[str],
    ) -> Manifest:
        """The InferenceService that comes next: it starts what the plan wants at 0 % while somebody is not ready, and
        gives it its share after that; ``leaving`` workloads stay at 0 % until they have drained."""
        if live is None:
            first = EndpointPlan(plan.endpoint, plan.generation, (_stable(plan),), _all_to(plan))
            return self._manifest(plan, names, self._final(first, names), first.route.weights_bp)
        if self.mode == KNATIVE:
            return self._advance_revisions(plan, names, live, is_waiting=is_waiting)
        spec = self._prepared(plan, names, live) if is_waiting else self._with_leaving(plan, names, live, leaving)
        return self._manifest(plan, names, spec, self._weights(live) if is_waiting else plan.route.weights_bp, live)

    def is_same(self, manifest: Manifest, live: Manifest) -> bool:
        wanted, found = manifest["spec"], live["spec"]
        has_more = "canary" in found and len(found["canary"]) != len(wanted.get("canary") or ())
        is_pinned = "canaryTrafficPercent" in found["predictor"] and "canaryTrafficPercent" not in wanted["predictor"]
        return not has_more and not is_pinned and not differences(manifest, live)

    def seen(self, live: Mapping[str, Manifest]) -> RouteSeen:
        found = live.get(INFERENCE_SERVICE.kind)
        if found is None:
            return RouteSeen(None, is_accepted=False, problem="the InferenceService is not there")
        note = json.loads(notes_of(found).get(ROUTE_NOTE, "{}"))
        problem = self._problem(found)
        route = route_of(int(note.get("period", 0)), self._weights(found), None)
        named = frozenset(name for name, share in self._shares(found) if share)
        return RouteSeen(route, is_accepted=not problem, problem=problem, workloads=named)

    # --- what is there -----------------------------------------------------------------------------------------------

    def _shares(self, live: Manifest) -> list[tuple[str, int]]:
        """By workload, from the spec itself: whoever edited it by hand is seen."""
        main = live["spec"]["predictor"]
        newest = _workload_in(main)
        if self.mode == KNATIVE and "canaryTrafficPercent" in main:
            note = json.loads(notes_of(live).get(ROUTE_NOTE, "{}"))
            share = PERCENT_BP * int(main["canaryTrafficPercent"])
            return [(newest, share), (note.get("previous") or newest, FULL_BP - share)]
        others = [
            (_workload_in(item["predictor"]), PERCENT_BP * int(item.get("trafficPercent", 0)))
            for item in live["spec"].get("canary") or ()
        ]
        return [(newest, FULL_BP - sum(share for _, share in others)), *others]

    def _weights(self, live: Manifest) -> dict[str, int]:
        """By variant key."""
        keys = json.loads(notes_of(live).get(ROUTE_NOTE, "{}")).get("backends", {})
        found: dict[str, int] = {}
        for name, share in self._shares(live):
            key = keys.get(name, name)
            found[key] = found.get(key, 0) + share
        return found

    def _problem(self, live: Manifest) -> str:
        """Why KServe has not taken this version of it; empty when it has."""
        status, name = live.get("status") or {}, live["metadata"]["name"]
        if status.get("observedGeneration", 0) < live["metadata"].get("generation", 0):
            return f"KServe has not answered to the newest InferenceService {name} yet; is its controller running?"
        model = status.get("modelStatus") or {}
        if model.get("transitionStatus") in {"BlockedByFailedLoad", "InvalidSpec"}:
            failure = model.get("lastFailureInfo") or {}
            said = failure.get("message") or failure.get("reason") or "without a reason"
            return f"KServe cannot load the model ({model['transitionStatus']}): {said}"
        conditions = {item["type"]: item for item in status.get("conditions") or ()}
        ready = conditions.get("Ready") or {}
        if ready.get("status") != "True":
            said = ready.get("message") or ready.get("reason") or "it has not said why"
            return f"KServe does not report {name} as ready: {said}"
        told = {item.get("name"): item for item in status.get("canaryStatuses") or ()}
        for item in live["spec"].get("canary") or ():
            key = _workload_in(item["predictor"])
            if item.get("trafficPercent") and not (told.get(item["predictor"]["name"]) or {}).get("ready"):
                said = (conditions.get("CanaryPredictorReady") or {}).get("reason") or "it has not said why"
                return f"KServe does not report canary {key} as ready: {said}"
        return self._split_problem(live)

    def _split_problem(self, live: Manifest) -> str:
        """Whether the shares that KServe reports are the ones asked for."""
        status = live.get("status") or {}
        if self.mode == STANDARD:
            told = {item.get("name"): item.get("trafficPercent") for item in status.get("canaryStatuses") or ()}
            wanted = {item["predictor"]["name"]: item["trafficPercent"] for item in live["spec"].get("canary") or ()}
            return "" if told == wanted else f"KServe reports other shares ({told}) than asked for ({wanted})"
        if "canaryTrafficPercent" not in live["spec"]["predictor"]:
            return ""
        share = live["spec"]["predictor"]["canaryTrafficPercent"]
        component = (status.get("components") or {}).get("predictor") or {}
        newest = component.get("latestReadyRevision")
        told_ = sum(int(item.get("percent") or 0) for item in component.get("traffic") or ()
                    if item.get("revisionName") == newest)  # fmt: skip
        return "" if told_ == share else f"KServe reports {told_} % for the newest revision, asked for are {share} %"

    # --- what comes next ---------------------------------------------------------------------------------------------

    def _advance_revisions(
        self, plan: EndpointPlan, names: Mapping[str, Workload], live: Manifest, *, is_waiting: bool
    ) -> Manifest:
        stable = _stable(plan)
        other = next((spec for spec in plan.variants if spec.key != stable.key), None)
        wanted = names[(other or stable).key]
        newest, weights = _workload_in(live["spec"]["predictor"]), self._weights(live)
        if newest != wanted.name:
            # a new revision comes up at 0 %; the one rolled out before keeps the rest
            spec = {"predictor": {**self._predictor(wanted), "canaryTrafficPercent": 0}}
            key = (other or stable).key
            kept = {one: share for one, share in weights.items() if one != key}
            full = max(kept, key=lambda one: kept[one]) if kept else stable.key
            return self._manifest(plan, names, spec, {full: FULL_BP}, live, is_final=False)
        spec = {"predictor": self._predictor(wanted)}
        is_up = _is_newest_ready(live) and not is_waiting
        if other is not None:
            # taking something off the newest revision waits for nobody: the rest goes to the one rolled out before it
            is_less = plan.weight_bp(other.key) < weights.get(other.key, 0)
            weights = dict(plan.route.weights_bp) if is_up or is_less else weights
            spec["predictor"]["canaryTrafficPercent"] = weights.get(other.key, 0) // PERCENT_BP
        elif not is_up and "canaryTrafficPercent" in live["spec"]["predictor"]:
            spec["predictor"]["canaryTrafficPercent"] = live["spec"]["predictor"]["canaryTrafficPercent"]
            return self._manifest(plan, names, spec, weights, live, is_final=False)
        else:
            weights = dict(plan.route.weights_bp)
        return self._manifest(plan, names, spec, weights, live)

    def _prepared(self, plan: EndpointPlan, names: Mapping[str, Workload], live: Manifest) -> Manifest:
        """As it is, and whoever the plan wants beside it at 0 %."""
        spec = live["spec"]
        there = {_workload_in(item) for item in _predictors(spec)}
        missing = [names[one.key] for one in plan.variants if names[one.key].name not in there]
        canaries = [*(spec.get("canary") or ()), *(self._canary(workload, 0) for workload in missing)]
        return {"predictor": spec["predictor"], **({"canary": canaries} if canaries else {})}

    def _with_leaving(
        self, plan: EndpointPlan, names: Mapping[str, Workload], live: Manifest, leaving: Sequence[str]
    ) -> Manifest:
        spec = self._final(plan, names)
        rest = [
            {"predictor": _as_canary(item), "trafficPercent": 0}
            for item in _predictors(live["spec"])
            if _workload_in(item) in leaving and _workload_in(item) not in {one.name for one in names.values()}
        ]
        canaries = [*spec.get("canary", ()), *rest]
        return {**spec, **({"canary": canaries} if canaries else {})}

    def _final(self, plan: EndpointPlan, names: Mapping[str, Workload]) -> Manifest:
        """Without a canary the field is absent, never zero: a value that is left behind after a promotion would pin
        the next version."""
        stable = _stable(plan)
        others = [spec for spec in plan.variants if spec.key != stable.key]
        if self.mode == KNATIVE and others:
            share = plan.weight_bp(others[0].key) // PERCENT_BP
            return {"predictor": {**self._predictor(names[others[0].key]), "canaryTrafficPercent": share}}
        spec: Manifest = {"predictor": self._predictor(names[stable.key])}
        if others:
            shares = [(names[one.key], plan.weight_bp(one.key) // PERCENT_BP) for one in others]
            spec["canary"] = [self._canary(workload, share) for workload, share in shares]
        return spec

    def _manifest(
        self,
        plan: EndpointPlan,
        names: Mapping[str, Workload],
        spec: Manifest,
        weights: Mapping[str, int],
        live: Manifest | None = None,
        *,
        is_final: bool = True,
    ) -> Manifest:
        found = base_of(plan, self._settings, INFERENCE_SERVICE, names)
        note = json.loads(found["metadata"]["annotations"][ROUTE_NOTE])
        before = json.loads(notes_of(live).get(ROUTE_NOTE, "{}")) if live else {}
        wanted = {key: share for key, share in plan.route.weights_bp.items() if share}
        if before and (not is_final or {key: share for key, share in weights.items() if share} != wanted):
            note["period"] = before.get("period", 0)
        note["backends"] = {**before.get("backends", {}), **note["backends"]}
        newest = _workload_in(spec["predictor"])
        note["previous"] = before.get("previous", "")
        if live is not None and _workload_in(live["spec"]["predictor"]) != newest:
            note["previous"] = max(self._shares(live), key=lambda item: item[1])[0]
        found["metadata"]["annotations"] = {
            "serving.kserve.io/deploymentMode": "Knative" if self.mode == KNATIVE else "Standard",
            ROUTE_NOTE: json.dumps(note, sort_keys=True, separators=(",", ":")),
        }
        return {**found, "spec": spec}

    def _predictor(self, workload: Workload) -> Manifest:
        """A custom predictor with our own server: the same pod as everywhere else. The name makes KServe's Deployment,
        so a promotion points elsewhere and restarts nothing."""
        pod = pod_spec(workload, endpoint_object_name(workload.endpoint))
        containers = [{**container, "name": "kserve-container"} for container in pod["containers"]]
        if self.mode == STANDARD:
            containers[0]["env"] = [*containers[0]["env"], {"name": STORAGE_ENV, "value": workload.spec.artifact_uri}]
        count = workload.spec.replicas
        labels = {**workload.selector, GENERATION: "any", ROLLOUT: "any", PART: "predictor"}
        found = {**pod, "containers": containers, "minReplicas": count, "maxReplicas": count, "labels": labels}
        found["annotations"] = dict(_STILL)
        return found if self.mode == KNATIVE else {**found, "name": _short(workload)}

    def _canary(self, workload: Workload, percent: int) -> Manifest:
        return {"predictor": _as_canary(self._predictor(workload)), "trafficPercent": percent}

    def _check_variant(self, plan: EndpointPlan, spec: VariantSpec, stable: VariantSpec) -> None:
        if self.mode != STANDARD:
            return
        if spec.key != stable.key and spec.replicas > stable.replicas:
            detail = f"KServe takes no canary with more replicas ({spec.replicas}) than stable ({stable.replicas})."
            raise refuse("/variants/replicas", "too_many", detail)
        scheme = urlsplit(spec.artifact_uri).scheme
        if scheme not in READABLE:
            detail = (
                f"KServe in standard mode fetches the model itself and cannot read {scheme or 'a plain path'}; the "
                f"artifact has to lie at one of {', '.join(READABLE)}."
            )
            raise refuse("/variants/artifact_uri", "not_readable", detail)
        if len(endpoint_object_name(plan.endpoint)) > _LONGEST - 10:
            detail = (
                f"KServe makes names of the endpoint's, which may have at most {_LONGEST - 10} characters for that."
            )
            raise refuse("/endpoint", "too_long", detail)


def _stable(plan: EndpointPlan) -> VariantSpec:
    return plan.stable or plan.variants[0]


def _all_to(plan: EndpointPlan) -> Route:
    return route_of(plan.route.period, {_stable(plan).key: FULL_BP}, None)


def _as_canary(predictor: Manifest) -> Manifest:
    return {key: value for key, value in predictor.items() if key != "maxReplicas"}


def _predictors(spec: Manifest) -> list[Manifest]:
    return [spec["predictor"], *(item["predictor"] for item in spec.get("canary") or ())]


def _workload_in(predictor: Mapping[str, Any]) -> str:
    return str((predictor.get("labels") or {}).get(WORKLOAD, ""))


def _short(workload: Workload) -> str:
    """The recipe's hash alone: KServe puts the endpoint's name before it, and 63 characters are all there is."""
    return f"w{workload.revision}"


def _is_newest_ready(live: Manifest) -> bool:
    status = live.get("status") or {}
    component = (status.get("components") or {}).get("predictor") or {}
    is_seen = status.get("observedGeneration", 0) >= live["metadata"].get("generation", 0)
    created = component.get("latestCreatedRevision")
    return bool(is_seen and created and created == component.get("latestReadyRevision"))
