"""How objects are named and labelled, so that each can be found, owned and told apart without asking anybody.

A workload is one variant with one way of making its pods. Its name ends in a hash of everything that is in a pod, so a
variant that comes back with another artifact, image or amount of memory is another Deployment, never a changed one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from apps.kernel.canonical import canonical_json
from apps.targets.domain.plan import EndpointPlan, VariantSpec
from apps.targets.drivers.kubernetes.settings import Profile

MANAGER = "pilothouse"  # the field manager of every apply, and the value of app.kubernetes.io/managed-by
DOMAIN = "pilothouse.io"
RECIPE = 1
"""Raise it to give every workload a new name at the next rollout of its endpoint; rendering may change without."""
MAX_NAME = 52  # a ReplicaSet adds 11 characters and a Pod 6, and Service names and label values end at 63

ENDPOINT = f"{DOMAIN}/endpoint"
VARIANT = f"{DOMAIN}/variant"
WORKLOAD = f"{DOMAIN}/workload"
GENERATION = f"{DOMAIN}/generation"
ROLLOUT = f"{DOMAIN}/rollout"
PART = f"{DOMAIN}/part"  # record, owner, workload, route, access: which of our objects this is

EPOCH_NOTE = f"{DOMAIN}/epoch"
DIGEST_NOTE = f"{DOMAIN}/artifact-digest"
VERSION_NOTE = f"{DOMAIN}/model-version"
ROUTE_NOTE = f"{DOMAIN}/route"  # the route as desired when this object was written, in wire form
BEFORE_NOTE = f"{DOMAIN}/route-before"  # the one it replaced: in force until the new one is accepted
APPLIED_NOTE = f"{DOMAIN}/applied-at"

SELECTOR_ALL = f"app.kubernetes.io/managed-by={MANAGER}"


@dataclass(frozen=True)
class Workload:
    """A variant and its pods' recipe; ``name`` names its Deployment, Service and everything else of its own.

    Without slots, so that the name is worked out once: each object that is drawn or read asks for it several times.
    """

    endpoint: str
    spec: VariantSpec
    profile: Profile

    @cached_property
    def revision(self) -> str:
        spec = asdict(self.spec)
        # what may change while the pods stay: how many there are and what they are called in the rollout
        for free in ("replicas", "role"):
            spec.pop(free)
        if not spec["image"]:
            spec.pop("image")  # a workload that needs none keeps the name that it had before there were any
        profile = asdict(self.profile)
        # whether there is an autoscaler stays: an apply that stops naming spec.replicas resets it to one
        profile["autoscale"] = self.profile.autoscale is not None
        for free in ("callers", "surge", "min_ready_seconds"):
            profile.pop(free)
        text = canonical_json([RECIPE, self.endpoint, spec, profile])
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    @cached_property
    def name(self) -> str:
        return fit(f"{self.endpoint}-{self.spec.key}", MAX_NAME - 9) + f"-{self.revision}"

    @property
    def selector(self) -> dict[str, str]:
        """Immutable, and disjoint from every other workload's: overlapping selectors corrupt autoscaling."""
        return {
            "app.kubernetes.io/managed-by": MANAGER,
            "app.kubernetes.io/version": label_value(self.spec.version),
            ENDPOINT: self.endpoint,
            VARIANT: self.spec.key,
            WORKLOAD: self.name,
        }


def fit(text: str, length: int) -> str:
    """``text``, or its beginning and a hash when it is too long for a name; a DNS label either way.

    >>> fit("late-arrival", 20), fit("a" * 30, 20)
    ('late-arrival', 'aaaaaaaaaaaa-e5d2ab2')
    """
    if re.match(r"^[0-9]", text):
        text = f"e-{text}"  # a Service's name begins with a letter
    if len(text) <= length:
        return text
    return f"{text[: length - 8].rstrip('-')}-{hashlib.sha256(text.encode()).hexdigest()[:7]}"


def label_value(text: str) -> str:
    """``text`` as a label value: a semver's ``+`` has no place there."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", text)[:63].strip("._-")


def record_name(endpoint: str) -> str:
    """The ConfigMap that holds what is desired, and the epoch. It outlives the endpoint as its tombstone."""
    return fit(endpoint, MAX_NAME) + "-record"


def owner_name(endpoint: str) -> str:
    """The ConfigMap that owns every other object of the endpoint: deleting it deletes them."""
    return fit(endpoint, MAX_NAME) + "-owner"


def endpoint_object_name(endpoint: str) -> str:
    """The endpoint's own Service, route, service account and network policy."""
    return fit(endpoint, MAX_NAME)


def workload_of(plan: EndpointPlan, spec: VariantSpec, profile: Profile) -> Workload:
    return Workload(plan.endpoint, spec, profile)


def labels_of(plan: EndpointPlan, part: str, *, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The labels of an object of the endpoint (not of its pods: the generation changes and pods must not)."""
    return {
        "app.kubernetes.io/name": fit(plan.variants[0].model, 63),
        "app.kubernetes.io/instance": plan.endpoint,
        "app.kubernetes.io/component": "model-server",
        "app.kubernetes.io/part-of": "pilothouse",
        "app.kubernetes.io/managed-by": MANAGER,
        ENDPOINT: plan.endpoint,
        GENERATION: str(plan.generation),
        **({ROLLOUT: label_value(plan.rollout)} if plan.rollout else {}),
        PART: part,
        **(more or {}),
    }


def workload_labels(plan: EndpointPlan, workload: Workload, part: str = "workload") -> dict[str, str]:
    return labels_of(plan, part, more={**workload.selector, "app.kubernetes.io/name": fit(workload.spec.model, 63)})


def selector_of(endpoint: str) -> str:
    return f"{SELECTOR_ALL},{ENDPOINT}={endpoint}"


def notes_of(data: Mapping[str, Any]) -> dict[str, str]:
    return dict((data.get("metadata") or {}).get("annotations") or {})


def labels_in(data: Mapping[str, Any]) -> dict[str, str]:
    return dict((data.get("metadata") or {}).get("labels") or {})
