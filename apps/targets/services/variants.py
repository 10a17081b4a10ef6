"""From a model version to the variant that runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from apps.targets.domain.plan import Limits, Role, VariantSpec


class VersionLike(Protocol):
    """What is read of a registry.ModelVersion."""

    source_uri: Any
    storage_uri: Any
    artifact_digest: Any
    image: Any

    @property
    def model(self) -> Any: ...
    @property
    def semver(self) -> str: ...
    @property
    def variant_key(self) -> str: ...


def variant_of(
    version: VersionLike,
    role: Role,
    *,
    replicas: int = 1,
    workers: int = 1,
    limits: Limits | None = None,
    env: Mapping[str, str] | None = None,
) -> VariantSpec:
    """The variant of ``version``, pinned by its artifact's digest. Reads ``version.model``: select it along."""
    return VariantSpec(
        key=version.variant_key,
        version=version.semver,
        model=version.model.name,
        role=role,
        artifact_uri=version.storage_uri or version.source_uri,
        artifact_digest=version.artifact_digest,
        replicas=replicas,
        workers=workers,
        limits=limits or Limits(),
        env=dict(env or {}),
        image=version.image,
    )


def variant_beside(version: VersionLike, stable: VariantSpec | None) -> VariantSpec:
    """A candidate of ``version`` with the size, the limits and the environment of the stable variant that runs."""
    spec = variant_of(version, Role.CANDIDATE)
    if stable is None:
        return spec
    return replace(spec, replicas=stable.replicas, workers=stable.workers, limits=stable.limits, env=dict(stable.env))
