"""Is what lies at a version's source still what was registered?"""

from __future__ import annotations

from apps.kernel.errors import InvalidInput, PolicyRefused
from apps.registry.drivers.artifacts import digest_and_size, locate
from apps.registry.models import ModelVersion


def artifact_check(version: ModelVersion) -> None:
    """Raises PolicyRefused ``artifact_missing`` or ``digest_mismatch``. Reads it all: not in a transaction."""
    try:
        found, _ = digest_and_size(locate(version.source_uri))
    except InvalidInput as fault:
        code = "digest_mismatch" if fault.code == "artifact_irregular" else "artifact_missing"
        raise PolicyRefused(
            code,
            f"The artifact of {version.semver} cannot be used: {fault.detail} "
            "Restore it at its source, or register a new version.",
            extra={"version": version.id, "source": version.source_uri},
        ) from fault
    if found != version.artifact_digest:
        raise PolicyRefused(
            "digest_mismatch",
            f"The artifact of {version.semver} was changed after its registration: {found}, registered as "
            f"{version.artifact_digest}. Restore it at its source, or register what lies there as a new version.",
            extra={"version": version.id, "source": version.source_uri, "found": found},
        )
