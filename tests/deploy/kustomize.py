"""What ``kubectl kustomize`` makes of deploy/, as far as deploy/ uses it; anything else in a kustomization is refused.

Known: resources, namespace, labels (``pairs`` only), images, configMapGenerator (literals, merge; the name's suffix is
the content's hash, in every reference), patches (JSON 6902 ``add`` for a kind). The result was compared, once, with
kustomize itself.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
WIDE = {"Namespace", "ClusterRole", "ClusterRoleBinding"}
KNOWN = {"apiVersion", "kind", "namespace", "labels", "resources", "configMapGenerator", "images", "patches"}
Manifest = dict[str, Any]


@cache
def built(folder: Path) -> tuple[Manifest, ...]:
    """Every manifest of a folder with a kustomization, names of generated ConfigMaps with their suffix."""
    return tuple(_suffixed(_collected(folder)))


def folders() -> list[Path]:
    return sorted(path.parent for path in DEPLOY.rglob("kustomization.yaml"))


def _collected(folder: Path) -> list[Manifest]:
    wanted: Manifest = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    unknown = set(wanted) - KNOWN
    if unknown:
        raise ValueError(f"{folder}: this small builder knows no {', '.join(sorted(unknown))}")
    found: list[Manifest] = []
    for name in wanted["resources"]:
        place = (folder / name).resolve()
        found += _collected(place) if place.is_dir() else list(yaml.safe_load_all(place.read_text(encoding="utf-8")))
    found = copy.deepcopy(found)
    for generator in wanted.get("configMapGenerator", ()):
        _generate(found, generator)
    for item in found:
        if "namespace" in wanted and item["kind"] not in WIDE:
            item["metadata"]["namespace"] = wanted["namespace"]
        for labels in wanted.get("labels", ()):
            item["metadata"]["labels"] = {**item["metadata"].get("labels", {}), **labels["pairs"]}
        for image in wanted.get("images", ()):
            _rename(item, image)
        for patch in wanted.get("patches", ()):
            _patch(item, patch)
    return found


def _generate(found: list[Manifest], generator: Manifest) -> None:
    data = dict(literal.split("=", 1) for literal in generator["literals"])
    name = generator["name"]
    before = next((item for item in found if item["kind"] == "ConfigMap" and item["metadata"]["name"] == name), None)
    if generator.get("behavior") == "merge":
        assert before is not None, f"nothing to merge {name} into"
        before["data"] |= data
        return
    assert before is None
    meta: Manifest = {"name": name, "annotations": {"test/generated": "true"}}
    found.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data})


def _rename(item: Manifest, image: Manifest) -> None:
    for container in containers(item):
        if container["image"].partition(":")[0] == image["name"]:
            container["image"] = f"{image['newName']}:{image['newTag']}"


def _patch(item: Manifest, patch: Manifest) -> None:
    if item["kind"] != patch["target"]["kind"]:
        return
    for step in yaml.safe_load(patch["patch"]):
        assert step["op"] == "add", step
        *path, last = step["path"].strip("/").split("/")
        place = item
        for part in path:
            place = place[part]
        place[last] = step["value"]


def _suffixed(found: list[Manifest]) -> Iterator[Manifest]:
    names: dict[str, str] = {}
    for item in found:
        if item["metadata"].get("annotations", {}).pop("test/generated", None):
            item["metadata"].pop("annotations")
            name = item["metadata"]["name"]
            suffix = hashlib.sha256(json.dumps(item["data"], sort_keys=True).encode()).hexdigest()[:10]
            item["metadata"]["name"] = names[name] = f"{name}-{suffix}"
    for item in found:
        for container in containers(item):
            for source in container.get("envFrom", ()):
                named = source["configMapRef"]["name"]
                source["configMapRef"]["name"] = names.get(named, named)
        yield item


def pod_of(item: Manifest) -> Manifest | None:
    """The pod's spec in a Deployment, a StatefulSet or a Job."""
    if item["kind"] not in {"Deployment", "StatefulSet", "Job"}:
        return None
    pod: Manifest = item["spec"]["template"]["spec"]
    return pod


def containers(item: Manifest) -> list[Manifest]:
    pod = pod_of(item) or {}
    return [*pod.get("initContainers", ()), *pod.get("containers", ())]
