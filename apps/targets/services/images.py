"""The container image of a version: what to build and how, put together from the version's own files."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import yaml
from django.conf import settings

from apps.kernel.actor import Actor
from apps.kernel.errors import InvalidInput, NotFound, PolicyRefused, Unavailable
from apps.registry.domain.words import Trust
from apps.registry.selectors import version_by
from apps.registry.services.ingest_store import artifact_open, is_in_store
from apps.targets.images import ci
from apps.targets.images.context import archive, context_files
from apps.targets.images.dockerfile import MOUNTED_KEY, dockerfile
from apps.targets.images.lock import Locked, read_lock, server_part
from apps.targets.images.requirements import MAX_BYTES, read_requirements
from apps.targets.images.spec import DEFAULT_BASE, ImageSpec, ModelFrom, base_check, warnings_of

if TYPE_CHECKING:
    from apps.registry.models import ModelVersion

HOME = Path(__file__).resolve().parents[3]
"""Where the programs lie, the serving program among them."""


@dataclass(frozen=True, slots=True)
class ImageShown:
    """Everything that a person, or a CI job, needs to build the image of one version."""

    spec: ImageSpec
    image: str
    dockerfile: str
    steps: str
    github: str
    gitlab: str
    warnings: Sequence[str]


def image_show(
    *, actor: Actor, model_name: str, reference: str, base: str = "", model_from: str = "", endpoint: str = ""
) -> ImageShown:
    """Raises NotFound, InvalidInput (``?base``, ``?model_from``), PolicyRefused ``version_unverified``."""
    version = version_by(model_name, reference, actor=actor)
    return image_shown(version, base=base, model_from=model_from, endpoint=endpoint)


def image_shown(version: ModelVersion, *, base: str = "", model_from: str = "", endpoint: str = "") -> ImageShown:
    """The same for a version that somebody has at hand. Reads ``version.model``."""
    spec = image_spec(version, base=base, model_from=model_from)
    locked = {one.name: one.version for one in server_lock()}
    named = endpoint or spec.name
    return ImageShown(
        spec=spec,
        image=version.image,
        dockerfile=dockerfile(spec),
        steps=_steps(spec),
        github=ci.github(spec, endpoint=named),
        gitlab=ci.gitlab(spec, endpoint=named),
        warnings=[*_place_warnings(version, spec), *warnings_of(spec, locked)],
    )


def image_context(
    *, actor: Actor, model_name: str, reference: str, base: str = "", model_from: str = ""
) -> tuple[ImageSpec, bytes]:
    """The folder to build in, as a ``tar.gz``. Raises as ``image_show``."""
    spec = image_spec(version_by(model_name, reference, actor=actor), base=base, model_from=model_from)
    return spec, spec_archive(spec)


def image_spec(version: ModelVersion, *, base: str = "", model_from: str = "", url: str = "") -> ImageSpec:
    """What the image of ``version`` is made of. Reads its requirements, so not in a transaction. Raises InvalidInput
    and PolicyRefused ``version_unverified``. Reads ``version.model``."""
    if version.trust != Trust.VERIFIED or not version.artifact_digest:
        detail = f"Nobody here has read the files of {version.reference}, so there is no digest to build with."
        raise PolicyRefused("version_unverified", f"{detail} Ingest them first.", extra={"version": version.pk})
    if model_from and model_from not in set(ModelFrom):
        raise InvalidInput.at("?model_from", "unknown", f"{model_from!r} is none of {', '.join(ModelFrom)}.")
    stored = is_in_store(version.storage_uri)
    return ImageSpec(
        model=version.model.name,
        version=version.reference,
        key=version.variant_key,
        digest=version.artifact_digest,
        url=(url or settings.PILOTHOUSE_BASE_URL).rstrip("/"),
        requirements=read_requirements(_file_text(version, "requirements.txt")),
        python=_python_of(_file_text(version, "python_env.yaml")),
        base=base_check(base) if base else DEFAULT_BASE,
        model_from=ModelFrom(model_from) if model_from else (ModelFrom.REGISTRY if stored else ModelFrom.FOLDER),
    )


def spec_archive(spec: ImageSpec) -> bytes:
    """The folder to build ``spec`` in, the same bytes every time."""
    return archive(context_files(spec, server_lock(), serving_files()))


@lru_cache(maxsize=1)
def server_lock() -> Sequence[Locked]:
    """The part of the runtime lock that the serving program needs. Raises Unavailable where it was not installed."""
    place = HOME / "requirements" / "runtime.lock"
    try:
        return server_part(read_lock(place.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise Unavailable("lock_missing", f"This installation cannot say what its server needs: {error}.") from error


@lru_cache(maxsize=1)
def serving_files() -> Mapping[str, bytes]:
    """The serving program's own files, by name."""
    return {path.name: path.read_bytes() for path in sorted((HOME / "serving").glob("*.py"))}


def _file_text(version: ModelVersion, path: str) -> str:
    """A small file of the artifact; "" where there is none, or where the files are no longer within reach."""
    if is_in_store(version.storage_uri):
        try:
            entry, pieces = artifact_open(version, path)
        except NotFound:
            return ""
        content = b"" if entry.size > MAX_BYTES else b"".join(pieces)
    else:
        parts = urlsplit(version.storage_uri)
        place = Path(unquote(parts.path)) / path
        is_small = parts.scheme == "file" and place.is_file() and place.stat().st_size <= MAX_BYTES
        content = place.read_bytes() if is_small else b""
    return content.decode("utf-8", "replace")


def _python_of(text: str) -> str:
    """The version in MLflow's ``python_env.yaml``; "" when it says none."""
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        return ""
    python = found.get("python") if isinstance(found, dict) else None
    return str(python)[:20] if python else ""


def _place_warnings(version: ModelVersion, spec: ImageSpec) -> list[str]:
    if spec.model_from is ModelFrom.REGISTRY and not is_in_store(version.storage_uri):
        return [
            "Its files are not in the store, so no build can fetch them: ingest them, or build with model_from=folder."
        ]
    if spec.model_from is ModelFrom.FOLDER:
        return [
            f"Put the model's files (from {version.storage_uri}) into model/ of the folder; the build compares them."
        ]
    return []


def _steps(spec: ImageSpec) -> str:
    """A terminal's way, with the program and docker."""
    name = f"registry.example.com/models/{spec.name}"
    secret = f"--secret id={MOUNTED_KEY},src=token " if spec.model_from is ModelFrom.REGISTRY else ""
    copied = "cp -r PATH/TO/THE/MODEL build/model\n" if spec.model_from is ModelFrom.FOLDER else ""
    called = f"{shlex.quote(spec.model)} {shlex.quote(spec.version)}"
    return (
        f"pilothouse image context {called} --to build\n"
        f"{copied}"
        f"docker buildx build {secret}--push --metadata-file built.json --tag {name}:{spec.tag} build\n"
        f'pilothouse image record {called} "{name}@$(jq -r \'."containerimage.digest"\' built.json)"\n'
    )
