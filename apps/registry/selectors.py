"""Reads of the registry."""

from __future__ import annotations

from collections.abc import Iterable

from apps.kernel.errors import InvalidInput, NotFound
from apps.registry.domain.semver import Semver, looks_like_version
from apps.registry.domain.signature import Difference, Signature, breaking_differences
from apps.registry.models import Alias, Model, ModelVersion


def model_get(name: str) -> Model:
    """Raises NotFound."""
    model = Model.objects.filter(name=name).first()
    if model is None:
        raise NotFound("model_unknown", f"There is no model {name}.")
    return model


def model_list() -> list[Model]:
    """By name, with ``versions`` and ``aliases`` (and their versions) at hand: three queries however many there are."""
    return list(Model.objects.prefetch_related("versions", "aliases__version").order_by("name"))


def version_get(version_id: str) -> ModelVersion:
    """By id. Raises NotFound."""
    version = ModelVersion.objects.select_related("model").filter(id=version_id).first()
    if version is None:
        raise NotFound("version_unknown", f"There is no model version {version_id}.")
    return version


def version_by(model_name: str, reference: str) -> ModelVersion:
    """By semver (``1.2.0``), number (``3``) or alias (``champion``). Raises NotFound."""
    model = model_get(model_name)
    versions = ModelVersion.objects.select_related("model").filter(model=model)
    if reference.isascii() and reference.isdigit():
        found = versions.filter(number=int(reference)).first() if len(reference) < 10 else None
    elif looks_like_version(reference):
        found = _by_semver(model, reference)
    else:
        found = versions.filter(aliases__name=reference).first()
    if found is None:
        raise NotFound("version_unknown", f"{model_name} has no version {reference}.")
    return found


def version_list(model_name: str) -> list[ModelVersion]:
    """Newest registration first."""
    model = model_get(model_name)
    return list(
        ModelVersion.objects.select_related("model").prefetch_related("aliases").filter(model=model).order_by("-number")
    )


def alias_list(model_name: str) -> list[Alias]:
    """By name, with their versions."""
    return list(Alias.objects.select_related("version").filter(model=model_get(model_name)).order_by("name"))


def signature_of(version: ModelVersion) -> Signature:
    """The typed form of a version's signature and constraints."""
    return Signature.of(version.signature, version.input_constraints)


def drop_in_problems(stable: ModelVersion, candidate: ModelVersion) -> list[Difference]:
    """Why ``candidate`` cannot take over calls made for ``stable``; empty when it can."""
    return breaking_differences(signature_of(stable), signature_of(candidate))


def _by_semver(model: Model, text: str) -> ModelVersion | None:
    try:
        semver = Semver.parse(text)
    except InvalidInput:
        return None  # "1.2" or "v1.2.0": no version is called that
    return (
        ModelVersion.objects.select_related("model")
        .filter(model=model, major=semver.major, minor=semver.minor, patch=semver.patch)
        .first()
    )


def versions_in_bulk(ids: Iterable[str], *, unread: Iterable[str] = ()) -> dict[str, ModelVersion]:
    """Versions by id, one query; the columns named in ``unread`` stay in the database."""
    return ModelVersion.objects.defer(*unread).in_bulk(list(ids))
