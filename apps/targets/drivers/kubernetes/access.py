"""Which rights the driver needs, no more, as rules and as the Role to grant them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from apps.targets.drivers.kubernetes.names import MANAGER
from apps.targets.drivers.kubernetes.resources import (
    AUTOSCALER,
    BUDGET,
    CONFIG_MAP,
    DEPLOYMENT,
    LIMIT_RANGE,
    NETWORK_POLICY,
    NODE,
    POD,
    QUOTA,
    SERVICE,
    SERVICE_ACCOUNT,
    Kind,
)
from apps.targets.drivers.kubernetes.routes import Router
from apps.targets.drivers.kubernetes.settings import KubernetesSettings

WRITE = ("get", "list", "watch", "create", "patch", "update", "delete")
READ = ("get", "list", "watch")


@dataclass(frozen=True, slots=True)
class Right:
    """``is_needed`` false: without it something is unknown, but nothing fails."""

    group: str
    resource: str
    verb: str
    subresource: str = ""
    is_needed: bool = True
    is_clusterwide: bool = False

    def __str__(self) -> str:
        name = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        return f"{self.verb} {name}{f'.{self.group}' if self.group else ''}"


def rights_text(missing: Iterable[Right]) -> str:
    """Rights by resource.

    >>> rights_text([Right("", "pods", "get"), Right("apps", "deployments", "get"), Right("", "pods", "list")])
    'get, list pods; get deployments.apps'
    """
    verbs: dict[str, list[str]] = {}
    for right in missing:
        verbs.setdefault(str(right).partition(" ")[2], []).append(right.verb)
    every = set(WRITE)
    return "; ".join(
        f"{'everything on' if set(found) == every else ', '.join(found)} {name}" for name, found in verbs.items()
    )


def rights(router: Router) -> Iterator[Right]:
    for kind, verbs in _table(router):
        for verb in verbs:
            yield Right(kind.group, kind.plural, verb)
    yield Right("", POD.plural, "get", "log", is_needed=False)
    for kind in (QUOTA, LIMIT_RANGE):
        yield Right("", kind.plural, "list", is_needed=False)
    yield Right("", NODE.plural, "list", is_needed=False, is_clusterwide=True)
    yield Right("", POD.plural, "list", is_needed=False, is_clusterwide=True)


def role_text(router: Router, settings: KubernetesSettings) -> str:
    """The minimal Role, and the ClusterRole without which free capacity is unknown, as YAML to apply.

    Of Secrets only those may be read that the profiles name, to see that they are there before pods wait for them.
    """
    rules: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for kind, verbs in _table(router):
        rules.setdefault((kind.group, tuple(verbs)), []).append(kind.plural)
    rules.setdefault(("", ("get",)), []).append("pods/log")
    rules.setdefault(("", ("list",)), []).extend([QUOTA.plural, LIMIT_RANGE.plural])
    role: dict[str, Any] = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": MANAGER, "namespace": settings.namespace},
        "rules": [
            {"apiGroups": [group], "resources": sorted(names), "verbs": list(verbs)}
            for (group, verbs), names in sorted(rules.items())
        ],
    }
    secrets = _secrets(settings)
    if secrets:
        role["rules"].append(
            {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": sorted(secrets)}
        )
    reader: dict[str, Any] = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": f"{MANAGER}-capacity"},
        "rules": [{"apiGroups": [""], "resources": ["nodes", "pods"], "verbs": ["list"]}],
    }
    return yaml.safe_dump_all([role, reader], sort_keys=False, default_flow_style=None, width=110)


def _secrets(settings: KubernetesSettings) -> set[str]:
    profiles = [settings.profile, *settings.endpoints.values()]
    pulled = {name for profile in profiles for name in profile.pull_secrets}
    return pulled | {profile.telemetry.secret for profile in profiles if profile.telemetry}


def _table(router: Router) -> list[tuple[Kind, tuple[str, ...]]]:
    written = [CONFIG_MAP, SERVICE, SERVICE_ACCOUNT, DEPLOYMENT, AUTOSCALER, BUDGET, NETWORK_POLICY]
    written += [kind for kind in router.kinds if kind not in written]
    return [*((kind, WRITE) for kind in written), (POD, READ)]
