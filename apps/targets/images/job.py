"""The build of an image inside a cluster: one Job of rootless BuildKit, and the folder that it builds. Pure.

docs/decisions/0012 says why BuildKit. The Job owns the ConfigMap with the folder, and is deleted a while after its end,
so a finished build leaves nothing behind. Nothing secret is in either: the registry's credentials and the token that
reads the model are Secrets of the namespace, mounted as files.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from apps.kernel.errors import InvalidInput
from apps.registry.domain.images import ImageReference
from apps.targets.images.dockerfile import MOUNTED_KEY

Manifest = dict[str, Any]
DEFAULT_IMAGE = "moby/buildkit:v0.29.0-rootless"
BUILDKIT_UID = 1000
"""The user of BuildKit's rootless image; it has its ranges of sub-users, another has none."""
KEPT_SECONDS = 3600
LARGEST_FOLDER = 700 * 1024
"""Bytes; a ConfigMap holds 1 MiB with everything, in base64."""
BUILD = "pilothouse.io/build"
ARCHIVE = "context.tar.gz"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

_SCRIPT = f"""\
set -eu
mkdir -p /workspace/context
tar -xzf /context/{ARCHIVE} -C /workspace/context
buildctl-daemonless.sh build --frontend dockerfile.v0 --progress plain \\
  --local context=/workspace/context --local dockerfile=/workspace/context \\
  --secret id={MOUNTED_KEY},src=/var/run/secrets/pilothouse/token \\
  --output "type=image,name=$IMAGE,push=true" --metadata-file /workspace/built.json
sed -n 's/.*"containerimage.digest": *"\\(sha256:[0-9a-f]*\\)".*/\\1/p' /workspace/built.json > /dev/termination-log
"""


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """How a cluster builds. ``repository`` may hold ``{model}``; ``push_secret`` is a Secret of the type
    ``kubernetes.io/dockerconfigjson``, ``token_secret`` one whose key ``token`` is an API key that may read models;
    ``url`` is how the cluster reaches the registry ("" as everybody does)."""

    repository: str
    push_secret: str
    token_secret: str
    image: str = DEFAULT_IMAGE
    url: str = ""
    cpu: str = "1"
    memory: str = "4Gi"
    scratch: str = "20Gi"
    seconds: int = 3600


@dataclass(frozen=True, slots=True)
class BuildOrder:
    """One build. ``name`` is the Job's; ``image`` where the result is pushed to, with a tag; ``archive`` the folder."""

    name: str
    image: str
    archive: bytes
    labels: Mapping[str, str]


def build_job(order: BuildOrder, settings: BuildSettings, *, manager: str) -> Manifest:
    """Rootless BuildKit runs as a user without rights and without privileges, but makes user namespaces of its own:
    the default seccomp and AppArmor profiles forbid that, and its helpers are setuid. Give it a namespace whose pod
    security level is not enforced, apart from the models."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": order.name, "labels": _labels(order, manager)},
        "spec": {
            "backoffLimit": 1,
            "activeDeadlineSeconds": settings.seconds,
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            "template": {"metadata": {"labels": _labels(order, manager)}, "spec": _pod(order, settings)},
        },
    }


def build_folder(order: BuildOrder, job: Mapping[str, Any], *, manager: str) -> Manifest:
    """The ConfigMap with the folder, owned by ``job`` as it lives in the cluster. Raises ValueError when too large."""
    if len(order.archive) > LARGEST_FOLDER:
        raise ValueError(f"the build's folder has {len(order.archive)} bytes, a ConfigMap holds {LARGEST_FOLDER}")
    owner = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": order.name,
        "uid": job["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": order.name, "labels": _labels(order, manager), "ownerReferences": [owner]},
        "immutable": True,
        "binaryData": {ARCHIVE: base64.b64encode(order.archive).decode("ascii")},
    }


def pushed_to(settings: BuildSettings, name: str, tag: str) -> str:
    """Where an image of the model ``name`` (as a part of an image's name) goes. Raises InvalidInput."""
    try:
        return str(ImageReference.parse(f"{settings.repository.replace('{model}', name)}:{tag}"))
    except InvalidInput as error:
        raise InvalidInput.at("/target", "bad_repository", f"The target's build repository: {error.detail}") from error


def digest_in(message: str) -> str:
    """The digest that a finished build left as its container's message; "" when it left none."""
    found = _DIGEST.search(message)
    return found.group() if found else ""


def _pod(order: BuildOrder, settings: BuildSettings) -> Manifest:
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": BUILDKIT_UID,
            "runAsGroup": BUILDKIT_UID,
            "fsGroup": BUILDKIT_UID,
            "seccompProfile": {"type": "Unconfined"},
            "appArmorProfile": {"type": "Unconfined"},
        },
        "containers": [_builder(order, settings)],
        "volumes": [
            {"name": "context", "configMap": {"name": order.name}},
            {"name": "workspace", "emptyDir": {"sizeLimit": settings.scratch}},
            {"name": "buildkit", "emptyDir": {"sizeLimit": settings.scratch}},
            _secret("token", settings.token_secret, "token", "token"),
            _secret("registry", settings.push_secret, ".dockerconfigjson", "config.json"),
        ],
    }


def _builder(order: BuildOrder, settings: BuildSettings) -> Manifest:
    return {
        "name": "buildkit",
        "image": settings.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", _SCRIPT],
        "env": [
            # without a process sandbox: that one needs an unmasked /proc, which a pod does not get
            {"name": "BUILDKITD_FLAGS", "value": "--oci-worker-no-process-sandbox"},
            {"name": "DOCKER_CONFIG", "value": "/var/run/secrets/registry"},
            {"name": "IMAGE", "value": order.image},
        ],
        "resources": {
            "requests": {"cpu": settings.cpu, "memory": settings.memory},
            "limits": {"memory": settings.memory},
        },
        # newuidmap is setuid: without its right to become root for a moment there is no user namespace
        "securityContext": {"allowPrivilegeEscalation": True, "privileged": False},
        "volumeMounts": [
            {"name": "context", "mountPath": "/context", "readOnly": True},
            {"name": "workspace", "mountPath": "/workspace"},
            {"name": "buildkit", "mountPath": "/home/user/.local/share/buildkit"},
            {"name": "token", "mountPath": "/var/run/secrets/pilothouse", "readOnly": True},
            {"name": "registry", "mountPath": "/var/run/secrets/registry", "readOnly": True},
        ],
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _secret(name: str, secret: str, key: str, path: str) -> Manifest:
    return {"name": name, "secret": {"secretName": secret, "items": [{"key": key, "path": path}], "defaultMode": 0o440}}


def _labels(order: BuildOrder, manager: str) -> dict[str, str]:
    return {
        "app.kubernetes.io/component": "image-build",
        "app.kubernetes.io/part-of": "pilothouse",
        "app.kubernetes.io/managed-by": manager,
        BUILD: order.name,
        **order.labels,
    }
