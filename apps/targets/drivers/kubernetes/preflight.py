"""Before a rollout starts: would this cluster take it? Reads and dry runs only; nothing is changed.

Every check answers for itself, so one missing right does not hide a full pool of GPUs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import yaml

from apps.kernel.clock import now
from apps.kernel.errors import DriverError
from apps.kernel.verdicts import Verdict
from apps.targets.domain.plan import EndpointPlan, Role
from apps.targets.domain.preflight import Change, Check, PreflightReport
from apps.targets.drivers.kubernetes.access import Right, rights, rights_text, role_text
from apps.targets.drivers.kubernetes.api import Api
from apps.targets.drivers.kubernetes.assess import yielding
from apps.targets.drivers.kubernetes.capacity import Demand, limit_faults, quota_faults, room_for
from apps.targets.drivers.kubernetes.conditions import Health, health_of
from apps.targets.drivers.kubernetes.drift import differences, unified
from apps.targets.drivers.kubernetes.names import VARIANT, WORKLOAD, labels_in
from apps.targets.drivers.kubernetes.render import Bundle, render
from apps.targets.drivers.kubernetes.render.pod import pod_spec
from apps.targets.drivers.kubernetes.replacing import replaced_how, replacements
from apps.targets.drivers.kubernetes.resources import (
    ACCESS_REVIEW,
    DEPLOYMENT,
    LIMIT_RANGE,
    NODE,
    POD,
    QUOTA,
    SECRET,
)
from apps.targets.drivers.kubernetes.retry import Deadline
from apps.targets.drivers.kubernetes.routes import Router
from apps.targets.drivers.kubernetes.settings import KubernetesSettings
from apps.targets.drivers.kubernetes.world import World, read_world

Manifest = dict[str, Any]
ASKED_AT_ONCE = 8
MOST_LINES = 400
TELEMETRY_KEY = "token"


def preflight(
    api: Api, settings: KubernetesSettings, router: Router, plan: EndpointPlan, deadline: Deadline
) -> PreflightReport:
    """Raises PlanRefused when this way of routing can never honour the plan, TargetUnreachable without a connection."""
    router.check(plan)
    api.raw("/version", deadline)
    missing = missing_rights(api, router, deadline)
    if any(right.is_needed and right.verb in {"get", "list"} for right in missing):
        # what is there may not be read: the rest would be guesses, and the Role is what has to come first
        return PreflightReport(checks=(_rights(missing),), role=role_text(router, settings))
    world = read_world(api, router, plan.endpoint, deadline)
    bundle = render(plan, settings, epoch=0, replicas=router.replicas(plan), has_pods=not router.brings_pods)
    manifests = [*bundle.all(), *router.render(plan, bundle.names, [])]
    demands = list(_demands(bundle, world))
    leaving = yielding(bundle, router.seen(world.route(router)), world.strangers(_names(bundle)))
    freed = [pod for name in sorted(leaving) for pod in world.pods_of(name)]
    warm = [pod for name in sorted(_warm(world, bundle)) for pod in world.pods_of(name)]
    asked: list[tuple[str, Callable[[], Check]]] = [
        ("rights", lambda: _rights(missing)),
        ("interfaces", lambda: _interfaces(api, router, deadline)),
        ("pull secrets", lambda: _secrets(api, bundle, deadline)),
        *([("telemetry", lambda: _telemetry(api, told, deadline))] if (told := _told(bundle)) else []),
        ("quota", lambda: _quota(api, demands, [*freed, *warm], deadline)),
        ("capacity", lambda: _capacity(api, demands, freed, warm, missing, deadline)),
        *([("pods", lambda: _pods(remade))] if (remade := _remade(plan, bundle, world, router)) else []),
        ("dry run", lambda: _dry_run(api, manifests, deadline)),
    ]
    return PreflightReport(
        checks=tuple(_answer(name, ask) for name, ask in asked),
        changes=tuple(changes(manifests, world, bundle)),
        role=role_text(router, settings),
    )


def changes(manifests: list[Manifest], world: World, bundle: Bundle) -> Iterator[Change]:
    """The diff against the live objects, and what will leave once the route has let go of it."""
    for manifest in manifests:
        live, kind, name = world.get(manifest), manifest["kind"], manifest["metadata"]["name"]
        if live is None:
            yield Change(kind, name, "create", lines=_as_new(manifest))
            continue
        found = differences(manifest, live)
        if found:
            lines = _cut(unified(manifest, live))
            yield Change(kind, name, "change", tuple(str(item) for item in found), lines)
    for item in world.strangers(_names(bundle)):
        yield Change(item["kind"], item["metadata"]["name"], "delete")


def missing_rights(api: Api, router: Router, deadline: Deadline) -> list[Right]:
    """The rights that we do not have, asked one by one: a list of rules would leave wildcards and names to us."""
    asked = list(rights(router))
    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        allowed = list(pool.map(lambda right: _may(api, right, deadline), asked))
    return [right for right, is_allowed in zip(asked, allowed, strict=True) if not is_allowed]


def _names(bundle: Bundle) -> list[str]:
    return [workload.name for workload in bundle.names.values()]


def _as_new(manifest: Manifest) -> tuple[str, ...]:
    text = yaml.safe_dump(manifest, sort_keys=False, width=110).rstrip()
    return _cut([f"+ {line}" for line in text.splitlines()])


def _cut(lines: list[str]) -> tuple[str, ...]:
    if len(lines) > MOST_LINES:
        lines = [*lines[:MOST_LINES], f"  … {len(lines) - MOST_LINES} more lines"]
    return tuple(lines)


def _answer(name: str, ask: Callable[[], Check]) -> Check:
    try:
        return ask()
    except DriverError as error:
        verdict = Verdict.NO_DATA if error.code == "not_allowed" else Verdict.ERROR
        return Check(name, verdict, error.detail, "Try again." if error.is_retryable else "")


def _may(api: Api, right: Right, deadline: Deadline) -> bool:
    attributes = {"group": right.group, "resource": right.resource, "verb": right.verb}
    if right.subresource:
        attributes["subresource"] = right.subresource
    if not right.is_clusterwide:
        attributes["namespace"] = api.namespace
    body = {
        "apiVersion": ACCESS_REVIEW.api_version,
        "kind": ACCESS_REVIEW.kind,
        "metadata": {},
        "spec": {"resourceAttributes": attributes},
    }
    return bool((api.create(body, deadline).get("status") or {}).get("allowed"))


def _rights(missing: list[Right]) -> Check:
    needed = [right for right in missing if right.is_needed]
    if needed:
        numbers = {"missing": len(needed)}
        return Check(
            "rights", Verdict.FAIL, f"Missing: {rights_text(needed)}.", "Apply the Role that preflight prints.", numbers
        )
    if missing:
        return Check("rights", Verdict.PASS, f"Enough; some checks stay unknown without: {rights_text(missing)}.")
    return Check("rights", Verdict.PASS, "All rights that are needed are there.")


def _interfaces(api: Api, router: Router, deadline: Deadline) -> Check:
    for kind in router.kinds:
        path = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
        served = {item["name"] for item in (api.raw(path, deadline) or {}).get("resources") or ()}
        if kind.plural not in served:
            detail = f"The cluster serves no {kind.kind} of {kind.api_version}."
            return Check("interfaces", Verdict.FAIL, detail, "Install it, or choose another kind of route.")
    return Check("interfaces", Verdict.PASS, "Every kind of object is served in the version that is used.")


def _secrets(api: Api, bundle: Bundle, deadline: Deadline) -> Check:
    names = {name for workload in bundle.names.values() for name in workload.profile.pull_secrets}
    missing = sorted(name for name in names if api.get(SECRET, name, deadline) is None)
    if missing:
        detail = f"No Secret {', '.join(missing)} in {api.namespace}: images could not be pulled."
        return Check("pull secrets", Verdict.FAIL, detail, "Create it there, or correct the profile.")
    return Check("pull secrets", Verdict.PASS, "Named secrets exist." if names else "None are named.")


def _told(bundle: Bundle) -> str:
    """The Secret that lets the pods report; empty when they report to nobody, or a serving stack makes them."""
    return next((one.profile.telemetry.secret for one in bundle.names.values() if one.profile.telemetry), "")


def _telemetry(api: Api, name: str, deadline: Deadline) -> Check:
    """No pod starts without it: a volume waits for a Secret that is not there, and says so only in an event."""
    command = (
        f"kubectl -n {api.namespace} create secret generic {name} "
        f'--from-literal={TELEMETRY_KEY}="$PILOTHOUSE_INGEST_TOKEN"'
    )
    try:
        found = api.get(SECRET, name, deadline)
    except DriverError as error:
        if error.code != "not_allowed":
            raise
        detail = f"Whether there is a Secret {name} with the key {TELEMETRY_KEY} is unknown: it may not be read."
        way_out = f"Apply the Role that preflight prints, or make sure of it yourself: {command}"
        return Check("telemetry", Verdict.NO_DATA, detail, way_out)
    if found is None:
        detail = f"No Secret {name} in {api.namespace}: the pods mount its key {TELEMETRY_KEY} and would never start."
        return Check("telemetry", Verdict.FAIL, detail, f"Make it: {command}")
    if not (found.get("data") or {}).get(TELEMETRY_KEY):
        detail = (
            f"Secret {name} in {api.namespace} has no key {TELEMETRY_KEY}: the pods mount it and would never start."
        )
        return Check("telemetry", Verdict.FAIL, detail, f"Delete it and make it anew: {command}")
    return Check("telemetry", Verdict.PASS, f"Secret {name} has what lets the pods report.")


def _quota(api: Api, demands: list[Demand], freed: list[Manifest], deadline: Deadline) -> Check:
    found = quota_faults(demands, api.find(QUOTA, deadline), freed)
    found += limit_faults(demands, api.find(LIMIT_RANGE, deadline))
    if found:
        way_out = "Raise it, ask for less, or plan the rollout without an overlap (surge off, recreate)."
        return Check("quota", Verdict.FAIL, f"{'; '.join(found)}.", way_out, {"broken": len(found)})
    return Check("quota", Verdict.PASS, "Quotas and limit ranges leave room.")


def _capacity(
    api: Api,
    demands: list[Demand],
    freed: list[Manifest],
    warm: list[Manifest],
    missing: list[Right],
    deadline: Deadline,
) -> Check:
    """``warm`` pods leave before anything starts; those in ``freed`` only where there is no room beside them."""
    if any(right.is_clusterwide for right in missing):
        detail = "Free capacity is unknown: nodes and pods of other namespaces may not be listed."
        return Check("capacity", Verdict.NO_DATA, detail, "Apply the ClusterRole that preflight prints.")
    nodes, pods = api.find(NODE, deadline), _without(api.find(POD, deadline, everywhere=True), warm)
    room = room_for(demands, nodes, pods)
    numbers = {"new_pods": room.wanted, "room_for": room.placed, **({"released": len(warm)} if warm else {})}
    if room.placed < room.wanted and freed:
        after = room_for(demands, nodes, _without(pods, freed))
        if after.placed == after.wanted:
            count = f"{len(freed)} pod{'s' if len(freed) != 1 else ''}"
            detail = (
                f"{after.sentence[:1].upper()}{after.sentence[1:]} once {count} of the old version left: a downtime."
            )
            return Check("capacity", Verdict.PASS, detail, numbers={**numbers, "freed": len(freed)})
        room, numbers = after, {**numbers, "freed": len(freed)}
    if room.placed < room.wanted:
        way_out = "Free or add nodes, or plan the rollout without an overlap (surge off, recreate)."
        return Check("capacity", Verdict.FAIL, f"{room.sentence}.", way_out, numbers)
    return Check("capacity", Verdict.PASS, f"{room.sentence[:1].upper()}{room.sentence[1:]}.", numbers=numbers)


def _without(pods: list[Manifest], gone: list[Manifest]) -> list[Manifest]:
    uids = {pod["metadata"]["uid"] for pod in gone}
    return [pod for pod in pods if pod["metadata"]["uid"] not in uids]


def _warm(world: World, bundle: Bundle) -> set[str]:
    """Workloads that are kept warm now and that the plan asked about does not name: they leave with its first pass."""
    held = world.record
    keys = {spec.key for spec in held.plan.variants if spec.role is Role.WARM} if held and held.plan else set()
    gone = [item for item in world.strangers(_names(bundle)) if labels_in(item).get(VARIANT) in keys]
    return {labels_in(item).get(WORKLOAD, "") for item in gone} - {""}


def _remade(plan: EndpointPlan, bundle: Bundle, world: World, router: Router) -> list[str]:
    """Sentences about pods of versions that serve already and are replaced all the same: by another profile of the
    target, or because an object of the same name says something else about them."""
    if router.brings_pods:
        return []
    found = []
    health = {spec.key: _health(bundle, world, spec.key) for spec in plan.variants}
    seen = router.seen(world.route(router))
    for one in replacements(plan, bundle.names, health, world, seen, now()).values():
        if not one.is_ready:
            how = replaced_how(one.version, one.new.desired, has_surge=one.has_surge)
            found.append(f"{how[:1].upper()}{how[1:]}: the target's profile is another one than theirs.")
    for spec in plan.variants:
        mine = bundle.deployment_of(spec.key)
        live = world.get(mine)
        if live is not None and any(one.path.startswith("spec.template") for one in differences(mine, live)):
            have, rolling = int(live["spec"].get("replicas", 1)), mine["spec"]["strategy"]["rollingUpdate"]
            count = max(1, -(-have // 4)) if rolling["maxSurge"] else 1
            found.append(f"The pods of {spec.version} are replaced in place, {count} at a time, by the cluster itself.")
    return found


def _health(bundle: Bundle, world: World, key: str) -> Health:
    mine = bundle.deployment_of(key)
    desired = int(mine["spec"].get("replicas", bundle.names[key].spec.replicas))
    name = bundle.names[key].name
    return health_of(world.deployment(name), world.pods_of(name), desired=desired, at=now())


def _pods(remade: list[str]) -> Check:
    return Check("pods", Verdict.PASS, " ".join(remade), numbers={"versions": len(remade)})


def _dry_run(api: Api, manifests: list[Manifest], deadline: Deadline) -> Check:
    refused = []
    for manifest in manifests:
        try:
            # forced: whose field it is was asked by the diff; here the question is whether the object is valid
            api.apply(manifest, deadline, is_forced=True, is_dry=True)
        except DriverError as error:
            if error.is_retryable:
                raise
            refused.append(error.detail)
    if refused:
        return Check("dry run", Verdict.FAIL, " ".join(refused), "Correct the named field of the profile or the plan.")
    return Check(
        "dry run",
        Verdict.PASS,
        f"The API server takes all {len(manifests)} objects.",
        numbers={"objects": len(manifests)},
    )


def _demands(bundle: Bundle, world: World) -> Iterator[Demand]:
    """The peak: what the plan wants beside everything that runs now, before anything leaves."""
    for key, manifests in bundle.workloads.items():
        workload = bundle.names[key]
        live = world.deployment(workload.name)
        mine: Manifest = next((item["spec"] for item in manifests if item["kind"] == DEPLOYMENT.kind), {})
        wanted = mine.get("replicas", workload.spec.replicas)
        have = int(live["spec"].get("replicas", 1)) if live else 0
        if wanted > have:
            yield Demand(key, wanted - have, pod_spec(workload, ""))
