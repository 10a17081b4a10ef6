"""What an endpoint should run: one pure object, rendered to JSON for whoever makes it true (contracts, section 1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from apps.kernel.errors import InvalidInput

FULL_BP = 10_000
_KEY = re.compile(r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$")


class Role(StrEnum):
    STABLE = "stable"
    CANDIDATE = "candidate"
    SHADOW = "shadow"
    WARM = "warm"
    """The version before, ready and without traffic for a while after a promotion."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one serving process accepts: rows and bytes of a request, queued requests, seconds of an answer."""

    max_rows: int = 1000
    max_bytes: int = 1_048_576
    queue: int = 128
    timeout_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class VariantSpec:
    """One model version running on the endpoint. ``key`` is opaque to everybody below the control plane.

    ``image`` is a container image, by digest, that holds the server and this version's files; "" where there is none.
    """

    key: str
    version: str
    model: str
    role: Role
    artifact_uri: str
    artifact_digest: str
    replicas: int = 1
    workers: int = 1
    limits: Limits = field(default_factory=Limits)
    env: Mapping[str, str] = field(default_factory=dict)
    image: str = ""

    def __post_init__(self) -> None:
        if not _KEY.match(self.key):
            raise InvalidInput.at(
                "/variants/key", "bad_key", f"{self.key!r} is not lower-case letters, digits, hyphens."
            )
        if self.replicas < 1 or self.workers < 1:
            raise InvalidInput.at("/variants/replicas", "too_few", f"{self.key} needs at least one replica and worker.")


@dataclass(frozen=True, slots=True)
class Mirror:
    """A copy of ``fraction_bp`` of the traffic goes to ``variant``; its answers are thrown away."""

    variant: str
    fraction_bp: int = FULL_BP


@dataclass(frozen=True, slots=True)
class Route:
    """Weights in basis points, summing to 10 000. ``period`` names this stretch of constant traffic."""

    period: int
    weights_bp: Mapping[str, int]
    mirror: Mirror | None = None
    sticky_header: str | None = None
    failover_to: str | None = None
    arms: Mapping[str, str] = field(default_factory=dict)
    """Value of the header ``x-pilothouse-arm`` -> variant: an experiment's callers bring the value they were given."""

    def same_traffic(self, other: Route) -> bool:
        """Whether both send the same requests to the same variants (the period left out)."""
        return replace(self, period=0) == replace(other, period=0)


@dataclass(frozen=True, slots=True)
class EndpointPlan:
    """Everything an endpoint should run. Raises InvalidInput, naming the field, when it could not be meant.

    ``rollout`` is the id of the rollout that wanted it, "" where none did: a label for whoever looks at the target.
    ``is_return``: it takes traffic back from a candidate, which wins over whoever changed the route meanwhile.
    """

    endpoint: str
    generation: int
    variants: tuple[VariantSpec, ...]
    route: Route
    rollout: str = ""
    is_return: bool = False

    def __post_init__(self) -> None:
        keys = [variant.key for variant in self.variants]
        if len(set(keys)) != len(keys):
            raise InvalidInput.at("/variants", "duplicate_key", f"Variant keys repeat: {', '.join(keys)}.")
        if [variant.role for variant in self.variants].count(Role.STABLE) > 1:
            raise InvalidInput.at("/variants", "two_stable", "An endpoint has one stable variant.")
        weights = self.route.weights_bp
        for key, weight in weights.items():
            if key not in keys:
                raise InvalidInput.at(f"/route/weights_bp/{key}", "unknown_variant", f"{key} is not a variant here.")
            if not 0 <= weight <= FULL_BP:
                raise InvalidInput.at(f"/route/weights_bp/{key}", "out_of_range", f"{weight} is not 0 to {FULL_BP}.")
        if sum(weights.values()) != FULL_BP:
            total = sum(weights.values())
            raise InvalidInput.at("/route/weights_bp", "weights_do_not_sum", f"Weights sum to {total}, not {FULL_BP}.")
        mirrored = self.route.mirror.variant if self.route.mirror else None
        for pointer, named in (("mirror", mirrored), ("failover_to", self.route.failover_to)):
            if named is not None and named not in keys:
                raise InvalidInput.at(f"/route/{pointer}", "unknown_variant", f"{named} is not a variant here.")
        for named in self.route.arms.values():
            if named not in keys:
                raise InvalidInput.at("/route/arms", "unknown_variant", f"{named} is not a variant here.")

    def variant(self, key: str) -> VariantSpec | None:
        return next((variant for variant in self.variants if variant.key == key), None)

    @property
    def stable(self) -> VariantSpec | None:
        return next((variant for variant in self.variants if variant.role is Role.STABLE), None)

    def weight_bp(self, key: str) -> int:
        return self.route.weights_bp.get(key, 0)

    def to_json(self) -> dict[str, Any]:
        """The wire form of contracts section 1."""
        route = self.route
        return {
            "endpoint": self.endpoint,
            "generation": self.generation,
            "variants": [_variant_json(variant) for variant in self.variants],
            "route": {
                "period": route.period,
                "weights_bp": dict(sorted(route.weights_bp.items())),
                "mirror": route.mirror and {"variant": route.mirror.variant, "fraction_bp": route.mirror.fraction_bp},
                "sticky_header": route.sticky_header,
                "failover_to": route.failover_to,
                **({"arms": dict(sorted(route.arms.items()))} if route.arms else {}),
            },
            **({"rollout": self.rollout} if self.rollout else {}),
            **({"is_return": True} if self.is_return else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> EndpointPlan:
        """The inverse of ``to_json``."""
        route = data["route"]
        mirror = route.get("mirror")
        return cls(
            endpoint=data["endpoint"],
            generation=data["generation"],
            variants=tuple(
                VariantSpec(**{**item, "role": Role(item["role"]), "limits": Limits(**item["limits"])})
                for item in data["variants"]
            ),
            route=Route(
                period=route["period"],
                weights_bp=dict(route["weights_bp"]),
                mirror=Mirror(**mirror) if mirror else None,
                sticky_header=route.get("sticky_header"),
                failover_to=route.get("failover_to"),
                arms=dict(route.get("arms") or {}),
            ),
            rollout=data.get("rollout", ""),
            is_return=data.get("is_return", False),
        )


def _variant_json(variant: VariantSpec) -> dict[str, Any]:
    limits = variant.limits
    return {
        "key": variant.key,
        "version": variant.version,
        "model": variant.model,
        "role": variant.role.value,
        "artifact_uri": variant.artifact_uri,
        "artifact_digest": variant.artifact_digest,
        "replicas": variant.replicas,
        "workers": variant.workers,
        "limits": {
            "max_rows": limits.max_rows,
            "max_bytes": limits.max_bytes,
            "queue": limits.queue,
            "timeout_seconds": limits.timeout_seconds,
        },
        "env": dict(sorted(variant.env.items())),
        # left out while there is none: what runs without an image keeps the plan, and the hash, that it had
        **({"image": variant.image} if variant.image else {}),
    }
