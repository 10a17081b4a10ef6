"""What an image of a model version is made of. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from enum import StrEnum

from apps.kernel.errors import InvalidInput
from apps.registry.domain.images import ImageReference
from apps.targets.images.requirements import Requirements

DEFAULT_BASE = "python:3.11.14-slim-bookworm"
LOCK_PYTHON = "3.11"
"""The Python that the runtime lock was made for, and that the default base brings."""
UID = 10001
PORT = 8080
MODEL_FOLDER = "/srv/model"


class ModelFrom(StrEnum):
    """Where the image gets the model's files from: the registry while it is built, the build's own folder, or not at
    all: then whoever starts the container puts them at /srv/model (an init container with ``serving.fetch``)."""

    REGISTRY = "registry"
    FOLDER = "folder"
    LATER = "later"


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """One version's image. ``url`` is where builds and init containers reach the registry; ``python`` the version that
    the model was saved with ("" unknown)."""

    model: str
    version: str
    key: str
    digest: str
    url: str
    requirements: Requirements = field(default_factory=Requirements)
    python: str = ""
    base: str = DEFAULT_BASE
    model_from: ModelFrom = ModelFrom.REGISTRY

    @property
    def name(self) -> str:
        """The model's name as a part of an image's name: small letters, digits, hyphens."""
        return re.sub(r"[^a-z0-9]+", "-", self.model.lower()).strip("-")[:100] or "model"

    @property
    def tag(self) -> str:
        return re.sub(r"[^A-Za-z0-9_.-]", "_", self.version)[:100].lstrip(".-") or self.key


def base_check(text: str) -> str:
    """A base image that stays the same: a tag other than latest, or a digest. Raises InvalidInput at ``?base``."""
    found = ImageReference.parse(text.strip(), "?base")
    if not found.is_exact and found.tag in {"", "latest"}:
        detail = f"{text[:80]!r} may be another image tomorrow; name a version, as in {DEFAULT_BASE}, or a digest."
        raise InvalidInput.at("?base", "base_loose", detail)
    return str(found)


def server_config(spec: ImageSpec) -> str:
    """The configuration that the image brings (contracts, section 4); a cluster mounts its own over it."""
    config = {
        "endpoint": spec.name[:63],
        "variant": spec.key,
        "version": spec.version,
        "model": spec.model,
        "artifact_uri": f"file://{MODEL_FOLDER}",
        "artifact_digest": spec.digest,
        "host": "0.0.0.0",  # noqa: S104
        "port": PORT,
        "workers": 1,
        "limits": {},
        "telemetry": None,
    }
    return json.dumps(config, indent=2, sort_keys=True) + "\n"


def warnings_of(spec: ImageSpec, locked: dict[str, str]) -> list[str]:
    """What somebody should know before building; ``locked`` is name to version of the server's own part."""
    found = [f"Left out: {one.line} ({one.why})." for one in spec.requirements.refused]
    unknown = [name for name in spec.requirements.loose if name not in locked]
    if unknown:
        found.append(f"No version is named for {', '.join(unknown)}: two builds may differ. Pin them in the model.")
    loose = [name for name in spec.requirements.loose if name in locked]
    if loose:
        found.append(f"The server's versions are used where the model names none: {', '.join(loose)}.")
    saved = spec.requirements.pinned.get("mlflow", "")
    if saved and saved != locked.get("mlflow"):
        found.append(f"It was saved with mlflow {saved}; the server brings its own, {locked.get('mlflow')}.")
    minor = ".".join(spec.python.split(".")[:2])
    if minor and minor != LOCK_PYTHON:
        found.append(
            f"It was saved with Python {spec.python}; the server's packages are locked for {LOCK_PYTHON}. Pickled code "
            "may not load."
        )
    if not spec.requirements.lines:
        found.append("The model names no packages (requirements.txt): only the server's own are in the image.")
    return found
