"""The endpoint plan (contracts.md section 1) as the agent holds it: parsed once, refused with the field named.

Fields are named by their path inside the plan: `route.weights_bp.v1-1-0`, `variants[0].replicas`.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from agent.errors import PlanInvalid

ALL_BP = 10_000
MAX_REPLICAS = 64
MAX_WORKERS = 64
MAX_VARIANTS = 32
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PRINTABLE = re.compile(r"[^\x00-\x1f\x7f]+")  # the version becomes a header of every answer
ROLES = ("stable", "candidate", "shadow")


@dataclass(frozen=True, slots=True)
class Limits:
    max_rows: int = 1000
    max_bytes: int = 1_048_576
    queue: int = 128
    timeout_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Variant:
    key: str
    version: str
    model: str
    role: str
    artifact_uri: str
    artifact_digest: str
    replicas: int = 1
    workers: int = 1
    limits: Limits = field(default_factory=Limits)
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def spec_hash(self) -> str:
        """8 hex digits over all that a running process depends on; a changed hash means new processes.

        Role and replica count are left out: promoting a candidate or scaling it must not restart it.
        """
        content = asdict(self)
        del content["role"], content["replicas"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


@dataclass(frozen=True, slots=True)
class Mirror:
    variant: str
    fraction_bp: int


@dataclass(frozen=True, slots=True)
class Route:
    period: int
    weights_bp: Mapping[str, int]
    mirror: Mirror | None = None
    sticky_header: str | None = None
    failover_to: str | None = None
    arms: Mapping[str, str] = field(default_factory=dict)  # value of x-pilothouse-arm -> variant

    @property
    def keys(self) -> frozenset[str]:
        """Variants this route can send a request to."""
        named = set(self.weights_bp)
        if self.mirror:
            named.add(self.mirror.variant)
        if self.failover_to:
            named.add(self.failover_to)
        return frozenset(named | set(self.arms.values()))

    @property
    def must_be_ready(self) -> tuple[str, ...]:
        """Variants that need to have been ready before this route may be applied, sorted."""
        needed = {key for key, weight in self.weights_bp.items() if weight > 0}
        if self.mirror and self.mirror.fraction_bp > 0:
            needed.add(self.mirror.variant)
        return tuple(sorted(needed | set(self.arms.values())))


@dataclass(frozen=True, slots=True)
class Plan:
    endpoint: str
    generation: int
    variants: tuple[Variant, ...]
    route: Route

    def variant(self, key: str) -> Variant | None:
        return next((v for v in self.variants if v.key == key), None)

    def to_wire(self) -> dict[str, Any]:
        route = {name: value for name, value in asdict(self.route).items() if name != "arms" or value}
        return asdict(self) | {"variants": [asdict(v) for v in self.variants], "route": route}


class _Fields:
    """Reads one JSON object strictly: every key is taken exactly once, whatever is left over is refused."""

    def __init__(self, value: Any, path: str) -> None:
        if not isinstance(value, dict):
            raise PlanInvalid(f"{path or 'plan'} must be an object, not {_kind(value)}.", field=path or "plan")
        self._left: dict[str, Any] = dict(value)
        self._path = path

    def path(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name

    def take(self, name: str, *default: Any) -> Any:
        if name in self._left:
            return self._left.pop(name)
        if default:
            return default[0]
        raise PlanInvalid(f"{self.path(name)} is missing.", field=self.path(name))

    def integer(self, name: str, low: int, high: int, *default: int) -> int:
        return _integer(self.take(name, *default), self.path(name), low, high)

    def text(self, name: str, pattern: re.Pattern[str] | None = None, limit: int = 1024) -> str:
        return _text(self.take(name), self.path(name), pattern, limit)

    def end(self) -> None:
        for name in self._left:
            raise PlanInvalid(f"{self.path(name)} is not a known field.", field=self.path(name))


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _integer(value: Any, path: str, low: int, high: int) -> int:
    # bool is an int in Python: `true` replicas would otherwise pass as 1.
    if isinstance(value, bool) or not isinstance(value, int):
        raise PlanInvalid(f"{path} must be a whole number, not {_kind(value)}.", field=path)
    if not low <= value <= high:
        raise PlanInvalid(f"{path} is {value}; it must lie between {low} and {high}.", field=path)
    return value


def _text(value: Any, path: str, pattern: re.Pattern[str] | None = None, limit: int = 1024) -> str:
    if not isinstance(value, str):
        raise PlanInvalid(f"{path} must be text, not {_kind(value)}.", field=path)
    if not value or len(value) > limit or "\x00" in value:
        raise PlanInvalid(f"{path} must have 1 to {limit} characters and no null character.", field=path)
    if pattern and not pattern.fullmatch(value):
        raise PlanInvalid(f"{path} is {value!r}; it must match {pattern.pattern}.", field=path)
    _encodable(value, path)
    return value


def _encodable(value: str, path: str) -> None:
    """JSON can name half of a surrogate pair; no file, environment or header can hold one."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise PlanInvalid(f"{path} holds half of a surrogate pair, which is no character.", field=path) from error


def valid_name(value: str) -> bool:
    """True for an endpoint name or variant key: a-z, 0-9 and inner hyphens, at most 63 characters."""
    return bool(_NAME.fullmatch(value))


def parse_plan(value: Any) -> Plan:
    """The typed plan of a decoded JSON object; raises PlanInvalid with the first wrong field."""
    top = _Fields(value, "")
    endpoint = top.text("endpoint", _NAME)
    generation = top.integer("generation", 0, 2**53)
    raw_variants = top.take("variants")
    if not isinstance(raw_variants, list) or not 1 <= len(raw_variants) <= MAX_VARIANTS:
        raise PlanInvalid(f"variants must be an array of 1 to {MAX_VARIANTS} objects.", field="variants")
    variants = tuple(_variant(raw, f"variants[{i}]") for i, raw in enumerate(raw_variants))
    seen: set[str] = set()
    for i, variant in enumerate(variants):
        if variant.key in seen:
            raise PlanInvalid(f"variants[{i}].key {variant.key!r} is used twice.", field=f"variants[{i}].key")
        seen.add(variant.key)
    route = _route(top.take("route"), seen)
    top.end()
    _weighted_have_replicas(variants, route)
    return Plan(endpoint, generation, variants, route)


def _weighted_have_replicas(variants: tuple[Variant, ...], route: Route) -> None:
    for i, variant in enumerate(variants):
        if variant.replicas == 0 and variant.key in route.must_be_ready:
            path = f"variants[{i}].replicas"
            raise PlanInvalid(f"{path} is 0, but the route sends traffic to {variant.key!r}.", field=path)


def _variant(value: Any, path: str) -> Variant:
    f = _Fields(value, path)
    role = f.text("role")
    if role not in ROLES:
        raise PlanInvalid(f"{path}.role is {role!r}; it must be one of {', '.join(ROLES)}.", field=f"{path}.role")
    variant = Variant(
        key=f.text("key", _NAME),
        version=f.text("version", _PRINTABLE, limit=128),
        model=f.text("model", _PRINTABLE, limit=256),
        role=role,
        artifact_uri=f.text("artifact_uri", limit=4096),
        artifact_digest=f.text("artifact_digest", _DIGEST),
        replicas=f.integer("replicas", 0, MAX_REPLICAS, 1),
        workers=f.integer("workers", 1, MAX_WORKERS, 1),
        limits=_limits(f.take("limits", {}), f"{path}.limits"),
        env=_env(f.take("env", {}), f"{path}.env"),
    )
    f.end()
    return variant


def _limits(value: Any, path: str) -> Limits:
    f = _Fields(value, path)
    default = Limits()
    timeout = f.take("timeout_seconds", default.timeout_seconds)
    is_number = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
    if not is_number or not math.isfinite(timeout) or not 0.001 <= timeout <= 3600:
        name = f"{path}.timeout_seconds"
        raise PlanInvalid(f"{name} must be a number of seconds from 0.001 to 3600.", field=name)
    limits = Limits(
        max_rows=f.integer("max_rows", 1, 10**7, default.max_rows),
        max_bytes=f.integer("max_bytes", 1, 2**30, default.max_bytes),
        queue=f.integer("queue", 1, 10**5, default.queue),
        timeout_seconds=float(timeout),
    )
    f.end()
    return limits


def _env(value: Any, path: str) -> dict[str, str]:
    if not isinstance(value, dict):
        raise PlanInvalid(f"{path} must be an object, not {_kind(value)}.", field=path)
    for name, content in value.items():
        if not _ENV_NAME.fullmatch(name):
            raise PlanInvalid(f"{path} has the name {name!r}, which no environment can hold.", field=f"{path}.{name}")
        if not isinstance(content, str) or "\x00" in content:
            raise PlanInvalid(f"{path}.{name} must be text without a null character.", field=f"{path}.{name}")
        _encodable(content, f"{path}.{name}")
    return dict(value)


def _route(value: Any, known: set[str]) -> Route:
    f = _Fields(value, "route")
    route = Route(
        period=f.integer("period", 0, 2**53),
        weights_bp=_weights(f.take("weights_bp"), known),
        mirror=_mirror(f.take("mirror", None), known),
        sticky_header=_sticky(f.take("sticky_header", None)),
        failover_to=_known(f.take("failover_to", None), "route.failover_to", known),
        arms=_arms(f.take("arms", {}), known),
    )
    f.end()
    return route


def _weights(value: Any, known: set[str]) -> dict[str, int]:
    path = "route.weights_bp"
    if not isinstance(value, dict):
        raise PlanInvalid(f"{path} must be an object, not {_kind(value)}.", field=path)
    weights: dict[str, int] = {}
    for key, weight in value.items():
        _known(key, f"{path}.{key}", known)
        weights[key] = _integer(weight, f"{path}.{key}", 0, ALL_BP)
    if (total := sum(weights.values())) != ALL_BP:
        raise PlanInvalid(f"{path} sums to {total}; it must sum to {ALL_BP}.", field=path)
    return weights


def _mirror(value: Any, known: set[str]) -> Mirror | None:
    if value is None:
        return None
    f = _Fields(value, "route.mirror")
    variant = _known(f.take("variant"), "route.mirror.variant", known)
    fraction = f.integer("fraction_bp", 0, ALL_BP)
    f.end()
    if variant is None:
        raise PlanInvalid("route.mirror.variant must name a variant.", field="route.mirror.variant")
    return Mirror(variant, fraction)


def _sticky(value: Any) -> str | None:
    return None if value is None else _text(value, "route.sticky_header", _TOKEN)


def _arms(value: Any, known: set[str]) -> dict[str, str]:
    path = "route.arms"
    if not isinstance(value, dict):
        raise PlanInvalid(f"{path} must be an object, not {_kind(value)}.", field=path)
    for header, variant in value.items():
        _text(header, path, _TOKEN, 200)
        if _known(variant, path, known) is None:
            raise PlanInvalid(f"{path} must name a variant for every value of the header.", field=path)
    return dict(value)


def _known(value: Any, path: str, known: set[str]) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or value not in known:
        raise PlanInvalid(f"{path} names {value!r}, which is not a variant of this plan.", field=path)
    return value
