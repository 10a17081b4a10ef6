"""The pod template of a workload: probes, drain, security, resources, placement."""

from __future__ import annotations

import math
from typing import Any

from apps.targets.drivers.kubernetes.names import Workload
from apps.targets.drivers.kubernetes.settings import Artifact, Profile

CONFIG_FOLDER = "/etc/pilothouse"
TOKEN_FOLDER = "/var/run/secrets/pilothouse"  # noqa: S105
PROBE_SECONDS = 5
READY = "/v2/health/ready"  # 200 only after load, digest check and a warm-up inference
LIVE = "/v2/health/live"  # answered by the process alone: a slow model must not get its server killed


def pod_spec(workload: Workload, service_account: str) -> dict[str, Any]:
    profile = workload.profile
    spec: dict[str, Any] = {
        "serviceAccountName": service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace_seconds(workload),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": profile.uid,
            "runAsGroup": profile.uid,
            "fsGroup": profile.uid,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_server(workload)],
        "volumes": _volumes(workload),
        **_placement(workload),
    }
    if artifact_of(workload).mode == "fetched":
        spec["initContainers"] = [_fetcher(workload)]
    if profile.pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in profile.pull_secrets]
    return spec


def grace_seconds(workload: Workload) -> int:
    """Longer than the route needs to forget the pod plus the longest request plus a margin to write telemetry."""
    return workload.profile.drain_seconds + math.ceil(workload.spec.limits.timeout_seconds) + 15


def image_of(workload: Workload) -> str:
    """The version's own image; without one the profile's with its placeholders filled: ``{model}``, ``{version}``,
    ``{key}``, ``{digest}`` (12 hex digits)."""
    spec = workload.spec
    if spec.image:
        return spec.image
    image = workload.profile.image
    for placeholder, value in (
        ("{model}", spec.model),
        ("{version}", spec.version.replace("+", "_")),
        ("{key}", spec.key),
        ("{digest}", spec.artifact_digest.removeprefix("sha256:")[:12]),
    ):
        image = image.replace(placeholder, value)
    return image


def artifact_of(workload: Workload) -> Artifact:
    """Where the container finds the model: in the version's own image when it has one, else as the profile says."""
    return Artifact() if workload.spec.image else workload.profile.artifact


def server_config(workload: Workload) -> dict[str, Any]:
    """The file that the serving process reads (contracts, section 4)."""
    spec, profile = workload.spec, workload.profile
    telemetry = profile.telemetry
    return {
        "endpoint": workload.endpoint,
        "variant": spec.key,
        "version": spec.version,
        "model": spec.model,
        "artifact_uri": f"file://{artifact_of(workload).path}",
        "artifact_digest": spec.artifact_digest,
        "host": "0.0.0.0",  # noqa: S104
        "port": profile.port,
        "workers": spec.workers,
        "limits": {
            "max_rows": spec.limits.max_rows,
            "max_bytes": spec.limits.max_bytes,
            "queue": spec.limits.queue,
            "timeout_seconds": spec.limits.timeout_seconds,
        },
        "telemetry": telemetry
        and {"url": telemetry.url, "token_file": f"{TOKEN_FOLDER}/token", "interval_seconds": 1.0, "sample_rate": 0.05},
    }


def _server(workload: Workload) -> dict[str, Any]:
    profile = workload.profile
    return {
        "name": "server",
        "image": image_of(workload),
        "imagePullPolicy": "IfNotPresent",
        "args": ["--config", f"{CONFIG_FOLDER}/serving.json", "--instance", "$(POD_NAME)"],
        "command": ["python", "-m", "serving"],
        "env": _env(workload),
        "ports": [{"name": "http", "containerPort": profile.port, "protocol": "TCP"}],
        "resources": _resources(profile),
        "startupProbe": _probe(READY, failures=math.ceil(profile.startup_seconds / PROBE_SECONDS)),
        "readinessProbe": _probe(READY, failures=2),
        "livenessProbe": _probe(LIVE, failures=6),
        "lifecycle": {"preStop": {"sleep": {"seconds": profile.drain_seconds}}} if profile.drain_seconds else {},
        "securityContext": _locked_down(),
        "volumeMounts": _mounts(workload, writes_model=False),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _fetcher(workload: Workload) -> dict[str, Any]:
    spec, artifact = workload.spec, workload.profile.artifact
    fetcher = {
        "name": "fetch-model",
        "image": artifact.image,
        "imagePullPolicy": "IfNotPresent",
        "command": list(artifact.command),
        "env": [
            {"name": "ARTIFACT_DIGEST", "value": spec.artifact_digest},
            {"name": "ARTIFACT_PATH", "value": artifact.path},
            {"name": "ARTIFACT_URI", "value": spec.artifact_uri},
        ],
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": _locked_down(),
        "volumeMounts": _mounts(workload, writes_model=True),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    if artifact.env_secret:
        fetcher["envFrom"] = [{"secretRef": {"name": artifact.env_secret}}]
    return fetcher


def _env(workload: Workload) -> list[dict[str, Any]]:
    texts = {"HOME": "/tmp", "PYTHONDONTWRITEBYTECODE": "1", **workload.profile.env, **workload.spec.env}  # noqa: S108
    named: list[dict[str, Any]] = [{"name": name, "value": value} for name, value in sorted(texts.items())]
    return [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}, *named]


def _resources(profile: Profile) -> dict[str, Any]:
    """Memory and GPU limits equal the requests: both are things that cannot be taken back from a process."""
    requests = {"cpu": profile.cpu, "memory": profile.memory}
    limits = {"memory": profile.memory}
    if profile.cpu_limit:
        limits["cpu"] = profile.cpu_limit
    if profile.gpus:
        requests[profile.gpu_resource] = limits[profile.gpu_resource] = str(profile.gpus)
    return {"requests": requests, "limits": limits}


def _probe(path: str, *, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "http", "scheme": "HTTP"},
        "periodSeconds": PROBE_SECONDS,
        "timeoutSeconds": 4,
        "failureThreshold": failures,
    }


def _locked_down() -> dict[str, Any]:
    return {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def _volumes(workload: Workload) -> list[dict[str, Any]]:
    artifact, telemetry = artifact_of(workload), workload.profile.telemetry
    volumes: list[dict[str, Any]] = [
        {"name": "config", "configMap": {"name": workload.name}},
        {"name": "tmp", "emptyDir": {}},
    ]
    if artifact.mode == "claim":
        volumes.append({"name": "model", "persistentVolumeClaim": {"claimName": artifact.claim, "readOnly": True}})
    if artifact.mode == "fetched":
        volumes.append({"name": "model", "emptyDir": {}})
    if telemetry is not None:
        secret = {"secretName": telemetry.secret, "items": [{"key": "token", "path": "token"}]}
        volumes.append({"name": "ingest-token", "secret": secret})
    return volumes


def _mounts(workload: Workload, *, writes_model: bool) -> list[dict[str, Any]]:
    artifact = artifact_of(workload)
    mounts: list[dict[str, Any]] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108
    if not writes_model:
        mounts.append({"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True})
        if workload.profile.telemetry is not None:
            mounts.append({"name": "ingest-token", "mountPath": TOKEN_FOLDER, "readOnly": True})
    if artifact.mode != "baked":
        model: dict[str, Any] = {"name": "model", "mountPath": artifact.path}
        mounts.append(model if writes_model else {**model, "readOnly": True})
    return mounts


def _placement(workload: Workload) -> dict[str, Any]:
    profile, placed = workload.profile, dict[str, Any]()
    for key, value in (
        ("nodeSelector", dict(profile.node_selector)),
        ("tolerations", [dict(item) for item in profile.tolerations]),
        ("affinity", dict(profile.affinity)),
        ("runtimeClassName", profile.runtime_class),
        ("priorityClassName", profile.priority_class),
    ):
        if value:
            placed[key] = value
    if profile.spread:
        placed["topologySpreadConstraints"] = [
            {
                "topologyKey": key,
                "maxSkew": 1,
                "whenUnsatisfiable": "ScheduleAnyway",
                "nodeTaintsPolicy": "Honor",
                "labelSelector": {"matchLabels": workload.selector},
                "matchLabelKeys": ["pod-template-hash"],
            }
            for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
        ]
    return placed
