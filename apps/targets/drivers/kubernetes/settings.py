"""What a Kubernetes target's connection says, parsed once into typed objects. docs/concepts/kubernetes.md lists it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from apps.targets.drivers.kubernetes.build_settings import build_settings
from apps.targets.drivers.kubernetes.quantity import quantity
from apps.targets.drivers.kubernetes.reading import Reader
from apps.targets.images.job import BuildSettings

_HOST = re.compile(r"^(?:\*\.)?(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$")
_NAME = re.compile(r"^[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?$")
_IMAGE = re.compile(r"^(?:[A-Za-z0-9./:@_-]|\{(?:model|version|key|digest)\})+$")
_LABEL = re.compile(r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$")


class RouteKind(StrEnum):
    GATEWAY = "gateway"
    ISTIO = "istio"
    REPLICAS = "replicas"
    KSERVE = "kserve"


class Conflicts(StrEnum):
    """What is done about a field that somebody else has changed: leave it and say so, or take it back."""

    HOLD = "hold"
    HEAL = "heal"


@dataclass(frozen=True, slots=True)
class RouteSettings:
    """How requests find the endpoint. ``gateway`` is ``namespace/name`` for Gateway API, and for Istio a Gateway in
    the same notation or ``mesh``; ``hosts`` are the names that callers use."""

    kind: RouteKind = RouteKind.GATEWAY
    gateway: str = ""
    section: str = ""
    hosts: tuple[str, ...] = ()
    address: str = ""
    kserve_mode: str = "standard"
    total_replicas: int = 0


@dataclass(frozen=True, slots=True)
class Artifact:
    """Where the container finds the model: ``baked`` into the image, on a ``claim`` (a PersistentVolumeClaim whose
    path is the artifact's), or ``fetched`` by an init container of ``image`` running ``command``."""

    mode: str = "baked"
    path: str = "/srv/model"
    claim: str = ""
    image: str = ""
    command: tuple[str, ...] = ()
    env_secret: str = ""


@dataclass(frozen=True, slots=True)
class Autoscale:
    """An autoscaling/v2 HPA per variant; ``metrics`` beyond ``cpu_percent`` go into it as they are."""

    least: int
    most: int
    cpu_percent: int = 70
    metrics: tuple[dict[str, Any], ...] = ()
    down_seconds: int = 300


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Where the serving process reports to, and the Secret (key ``token``) with the ingest token."""

    url: str
    secret: str


@dataclass(frozen=True, slots=True)
class Profile:
    """How one variant's pods are made. Texts of amounts are Kubernetes quantities; ``_seconds`` are seconds.

    ``startup_seconds`` is the worst time from start to warm; ``drain_seconds`` is how long a route takes to be obeyed
    everywhere, spent by a leaving pod before it stops, and by a leaving variant before its pods are deleted;
    ``min_ready_seconds`` is how long a pod must stay ready to count.
    """

    image: str
    pull_secrets: tuple[str, ...] = ()
    port: int = 8080
    cpu: str = "500m"
    memory: str = "1Gi"
    cpu_limit: str = ""
    gpus: int = 0
    gpu_resource: str = "nvidia.com/gpu"
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[dict[str, Any], ...] = ()
    affinity: Mapping[str, Any] = field(default_factory=dict)
    runtime_class: str = ""
    priority_class: str = ""
    startup_seconds: int = 600
    drain_seconds: int = 30
    min_ready_seconds: int = 5
    surge: bool = True
    spread: bool = True
    uid: int = 10001
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    callers: tuple[str, ...] = ()
    artifact: Artifact = field(default_factory=Artifact)
    autoscale: Autoscale | None = None
    telemetry: Telemetry | None = None


@dataclass(frozen=True, slots=True)
class KubernetesSettings:
    """One namespace of one cluster. ``endpoints`` are profiles that differ from the common one, by endpoint name."""

    namespace: str
    profile: Profile
    route: RouteSettings
    conflicts: Conflicts = Conflicts.HOLD
    endpoints: Mapping[str, Profile] = field(default_factory=dict)
    domain: str = "cluster.local"
    build: BuildSettings | None = None

    @property
    def is_fetched_by_kserve(self) -> bool:
        return self.route.kind is RouteKind.KSERVE and self.route.kserve_mode == "standard"

    def profile_of(self, endpoint: str) -> Profile:
        found = self.endpoints.get(endpoint, self.profile)
        return replace(found, artifact=Artifact(path="/mnt/models")) if self.is_fetched_by_kserve else found


def settings_from(connection: Mapping[str, Any]) -> KubernetesSettings:
    """Everything of the connection but ``auth``. Raises InvalidInput naming the field by JSON pointer."""
    reader = Reader("/connection", connection)
    reader.object("auth")
    namespace = reader.text("namespace", is_required=True)
    if not _LABEL.match(namespace):
        raise reader.fault("namespace", "bad_namespace", "must be 1 to 63 lower-case letters, digits and hyphens")
    common = reader.object("profile")
    own = {
        name: _profile(Reader(f"/connection/endpoints/{name}", {**common, **Reader(name, value).object("profile")}))
        for name, value in reader.object("endpoints").items()
    }
    settings = KubernetesSettings(
        namespace=namespace,
        profile=_profile(Reader("/connection/profile", common)),
        route=_route(reader.child("route")),
        conflicts=Conflicts(reader.one_of("conflicts", Conflicts, Conflicts.HOLD)),
        endpoints=own,
        domain=reader.text("cluster_domain", "cluster.local"),
        build=build_settings(reader.child("build")) if reader.has("build") else None,
    )
    reader.end()
    _check_scaling(reader, settings)
    return settings


def _check_scaling(reader: Reader, settings: KubernetesSettings) -> None:
    """Where replicas are the route, an autoscaler would be a second hand on the same wheel."""
    profiles = {"profile": settings.profile, **{f"endpoints/{name}": it for name, it in settings.endpoints.items()}}
    for place, profile in profiles.items():
        if settings.route.kind is RouteKind.REPLICAS and profile.autoscale is not None:
            raise reader.fault(f"{place}/autoscale", "contradiction", "cannot go with a route made of replicas")
        if settings.route.kind is RouteKind.KSERVE and profile.autoscale is not None:
            raise reader.fault(f"{place}/autoscale", "contradiction", "cannot go with KServe, which scales by itself")
        if settings.is_fetched_by_kserve and profile.artifact != Artifact():
            what = "is KServe's in standard mode: its storage initializer fetches the model; leave artifact out"
            raise reader.fault(f"{place}/artifact", "contradiction", what)


def _route(reader: Reader) -> RouteSettings:
    route = RouteSettings(
        kind=RouteKind(reader.one_of("kind", RouteKind, RouteKind.REPLICAS)),
        gateway=reader.text("gateway"),
        section=reader.text("section"),
        hosts=reader.texts("hosts"),
        address=reader.text("address"),
        kserve_mode=reader.one_of("kserve_mode", ("standard", "knative"), "standard"),
        total_replicas=reader.number("total_replicas", 0, least=0, most=1000),
    )
    reader.end()
    for host in route.hosts:
        if not _HOST.match(host):
            raise reader.fault("hosts", "bad_host", f"holds {host!r}, which is no host name; leave out scheme and port")
    if route.address and not re.match(r"^https?://[^\s/@?#]+(?:/[^\s?#]*)?$", route.address):
        raise reader.fault("address", "bad_url", "must be an http:// or https:// address without credentials")
    if route.kind is RouteKind.GATEWAY and not re.match(r"^[a-z0-9.-]+/[a-z0-9.-]+$", route.gateway):
        raise reader.fault("gateway", "required", "must name the Gateway as namespace/name")
    if route.kind is RouteKind.ISTIO and route.gateway != "mesh" and not route.hosts:
        raise reader.fault("hosts", "required", "must name at least one host for a Gateway of Istio")
    return route


def _profile(reader: Reader) -> Profile:
    profile = Profile(
        image=reader.text("image", is_required=True),
        pull_secrets=reader.texts("pull_secrets"),
        port=reader.number("port", 8080, least=1024, most=65535),
        cpu=_amount(reader, "cpu", "500m"),
        memory=_amount(reader, "memory", "1Gi"),
        cpu_limit=_amount(reader, "cpu_limit", ""),
        gpus=reader.number("gpus", 0, least=0, most=64),
        gpu_resource=reader.text("gpu_resource", "nvidia.com/gpu"),
        node_selector=reader.pairs("node_selector"),
        tolerations=reader.objects("tolerations"),
        affinity=reader.object("affinity"),
        runtime_class=reader.text("runtime_class"),
        priority_class=reader.text("priority_class"),
        startup_seconds=reader.number("startup_seconds", 600, least=10, most=7200),
        drain_seconds=reader.number("drain_seconds", 30, least=0, most=3600),
        min_ready_seconds=reader.number("min_ready_seconds", 5, least=0, most=600),
        surge=reader.flag("surge", True),
        spread=reader.flag("spread", True),
        uid=reader.number("uid", 10001, least=1, most=2**31 - 1),
        env=reader.pairs("env"),
        labels=reader.pairs("labels"),
        callers=reader.texts("callers"),
        artifact=_artifact(reader.child("artifact")),
        autoscale=_autoscale(reader.child("autoscale")) if reader.has("autoscale") else None,
        telemetry=_telemetry(reader.child("telemetry")) if reader.has("telemetry") else None,
    )
    reader.end()
    if not _IMAGE.match(profile.image):
        what = "is no image name; of placeholders there are {model}, {version}, {key}, {digest}"
        raise reader.fault("image", "bad_image", what)
    for name in profile.pull_secrets:
        if not _NAME.match(name):
            raise reader.fault("pull_secrets", "bad_name", f"holds {name!r}, which is no name of a Secret")
    return profile


def _artifact(reader: Reader) -> Artifact:
    artifact = Artifact(
        mode=reader.one_of("mode", ("baked", "claim", "fetched"), "baked"),
        path=reader.text("path", "/srv/model"),
        claim=reader.text("claim"),
        image=reader.text("image"),
        command=reader.texts("command"),
        env_secret=reader.text("env_secret"),
    )
    reader.end()
    for mode, key in (("claim", "claim"), ("fetched", "image"), ("fetched", "command")):
        if artifact.mode == mode and not getattr(artifact, key):
            raise reader.fault(key, "required", f"is required when the model is {mode}")
    return artifact


def _autoscale(reader: Reader) -> Autoscale:
    autoscale = Autoscale(
        least=reader.number("min", 1, least=1, most=10_000),
        most=reader.number("max", 1, least=1, most=10_000),
        cpu_percent=reader.number("cpu_percent", 70, least=0, most=1000),
        metrics=reader.objects("metrics"),
        down_seconds=reader.number("down_seconds", 300, least=0, most=3600),
    )
    reader.end()
    if autoscale.most < autoscale.least:
        raise reader.fault("max", "out_of_range", f"must be at least min ({autoscale.least})")
    if not autoscale.cpu_percent and not autoscale.metrics:
        raise reader.fault("metrics", "required", "must name a metric when cpu_percent is 0")
    return autoscale


def _telemetry(reader: Reader) -> Telemetry:
    telemetry = Telemetry(reader.text("url", is_required=True), reader.text("secret", is_required=True))
    reader.end()
    return telemetry


def _amount(reader: Reader, key: str, default: str) -> str:
    text = reader.text(key, default)
    if text:
        try:
            quantity(text)
        except ValueError as error:
            raise reader.fault(key, "bad_quantity", f"is no Kubernetes quantity: {error}") from error
    return text
