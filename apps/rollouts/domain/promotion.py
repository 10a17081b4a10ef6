"""What people see when they decide on moving a protected alias: both versions side by side. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class VersionLike(Protocol):
    """What is read of a registry.ModelVersion."""

    artifact_digest: Any
    size_bytes: Any
    metrics: Any
    evaluations: Any
    created_by: Any
    git_commit: Any
    trust: Any

    @property
    def reference(self) -> str: ...


def promotion_evidence(
    alias: str,
    now_there: VersionLike | None,
    wanted: VersionLike | None,
    differences: Sequence[str],
    endpoints: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """``differences``: why callers of the present version would break, in words; ``endpoints``: one row per endpoint of
    the model: what it serves, and what an approval would start there."""
    return {
        "move": {"alias": alias, "from": reference_of(now_there), "to": reference_of(wanted)},
        "metrics": _metrics(now_there, wanted),
        "calls": list(differences) or ["Calls made for the present version fit the wanted one."],
        "endpoints": [dict(row) for row in endpoints],
        "versions": {name: _facts(version) for name, version in (("now", now_there), ("wanted", wanted)) if version},
        **({"gates": list(wanted.evaluations)} if wanted and wanted.evaluations else {}),
    }


def reference_of(version: VersionLike | None) -> str:
    """Its semver or number; "nowhere" for none."""
    return version.reference if version else "nowhere"


def _facts(version: VersionLike) -> dict[str, Any]:
    return {
        "version": version.reference,
        "artifact": version.artifact_digest or "not verified",
        "size_bytes": version.size_bytes,
        "commit": version.git_commit or "not told",
        "registered by": version.created_by,
        "trust": version.trust,
    }


def _metrics(now_there: VersionLike | None, wanted: VersionLike | None) -> list[dict[str, Any]]:
    """Every metric of either, with the difference where both have a number."""
    old, new = (dict(version.metrics) if version else {} for version in (now_there, wanted))
    rows = []
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        change = after - before if isinstance(before, int | float) and isinstance(after, int | float) else None
        rows.append({"metric": name, "now": before, "wanted": after, "change": change})
    return rows
