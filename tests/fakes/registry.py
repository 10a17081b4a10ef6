"""Models and versions as rows, for tests of what stands above the registry."""

from __future__ import annotations

from apps.accounts.selectors import team_default
from apps.registry.models import Model, ModelVersion


def make_version(
    model_name: str = "late-arrival", semver: str = "1.0.0", *, status: str = "ready", source_uri: str = ""
) -> ModelVersion:
    """A version with a digest of its own; the model is made when it is not there."""
    major, minor, patch = (int(part) for part in semver.split("."))
    model, _ = Model.objects.get_or_create(name=model_name, defaults={"created_by": "Alice", "team": team_default()})
    number = model.versions.count() + 1
    return ModelVersion.objects.create(
        model=model,
        number=number,
        major=major,
        minor=minor,
        patch=patch,
        status=status,
        trust="verified",
        source_uri=source_uri or f"file:///srv/artifacts/{model_name}/{number}",
        artifact_digest="sha256:" + f"{number:064x}",
        created_by="Alice",
    )
