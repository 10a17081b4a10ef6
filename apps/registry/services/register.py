"""Registering an artifact that lies on this machine, and the models and aliases around it by our own rules of names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import transaction

from apps.kernel.actor import Actor
from apps.kernel.canonical import canonical_json
from apps.kernel.clock import now
from apps.kernel.errors import Conflict, InvalidInput
from apps.kernel.roots import path_below
from apps.registry.domain.compatibility import check_semver
from apps.registry.domain.inspection import Inspection
from apps.registry.domain.semver import Semver
from apps.registry.domain.signature import Signature
from apps.registry.domain.words import Trust, VersionStatus
from apps.registry.drivers.artifacts import Artifact, read_inspected
from apps.registry.models import Model, ModelVersion
from apps.registry.selectors import signature_of
from apps.registry.services.aliases import alias_move
from apps.registry.services.announce import announce, version_record
from apps.registry.services.catalogue import model_register
from apps.registry.services.locks import model_allowed, model_locked
from apps.registry.services.provenance import Provenance, provenance_columns
from apps.registry.services.verify_policy import formats_judge

__all__ = ["Seen", "alias_move", "artifact_read", "model_create", "version_register"]

REGISTER = "model.register"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)


def model_create(*, actor: Actor, name: str, description: str = "", team: str = "") -> Model:
    """A model without versions, of ``team`` (id or slug; default: where the actor registers models).

    Raises InvalidInput (name, team), NotFound (team), Forbidden and Conflict (name taken).
    """
    if not _NAME.fullmatch(name):
        detail = (
            "A model name has 1 to 100 letters, digits, dots, hyphens or underscores and begins with a letter or digit."
        )
        raise InvalidInput.at("/name", "bad_name", detail)
    return model_register(actor=actor, name=name, description=description, team=team)


def version_register(
    *,
    actor: Actor,
    model_name: str,
    semver: str,
    path: str | Path,
    metrics: Mapping[str, Any] | None = None,
    params: Mapping[str, Any] | None = None,
    run_id: str = "",
    description: str = "",
    seen: Seen | None = None,
    provenance: Provenance | None = None,
) -> ModelVersion:
    """An immutable version of the artifact at ``path``, which stays where it is; its digest is kept.

    ``seen``: what ``artifact_read`` found a moment ago, for a caller who is in a transaction by now.

    Raises InvalidInput (semver, path and what lies there, metrics, provenance), NotFound (model), Forbidden, Conflict
    (semver taken) and PolicyRefused: ``major_bump_required`` (the signature breaks callers of the same major version),
    ``format_refused`` (the model's format policy does not let its files in).
    """
    number = Semver.parse(semver)
    measured, params = _json("/metrics", metrics), _json("/params", params)
    said = provenance_columns(actor, model_name, provenance or Provenance())
    # Hashing may take long: before the transaction, so that the model's row is not locked meanwhile.
    seen = seen or artifact_read(actor=actor, model_name=model_name, path=path)
    artifact, moment = seen.artifact, now()
    with transaction.atomic():
        model = model_locked(model_name, actor=actor, action=REGISTER)
        formats_judge(model, seen.inspection, seen.code)  # again: the policy may have changed meanwhile
        _check_new(model, number, artifact)
        version = ModelVersion.objects.create(
            model=model,
            number=model.next_number,
            status=VersionStatus.READY,
            major=number.major,
            minor=number.minor,
            patch=number.patch,
            **_bytes(seen),
            metrics=measured,
            params=params,
            run_id=run_id[:64],
            description=description,
            created_at=moment,
            updated_at=moment,
            created_by=actor.label,
            **said,
        )
        model.next_number += 1
        model.updated_at = version.updated_at
        model.save(update_fields=["next_number", "updated_at"])
        _tell(actor, model, version)
    return version


def _bytes(seen: Seen) -> dict[str, Any]:
    """The columns that say what the bytes are."""
    artifact = seen.artifact
    return {
        "format": seen.inspection.format.value,
        "inspection": seen.inspection.as_dict(),
        "trust": Trust.VERIFIED,
        "storage_uri": artifact.uri,
        "source_uri": artifact.uri,
        "artifact_digest": artifact.digest,
        "size_bytes": artifact.size_bytes,
        "flavor": artifact.flavor,
        "signature": artifact.signature,
        "input_constraints": artifact.input_constraints,
    }


@dataclass(frozen=True, slots=True)
class Seen:
    """What lies at a path: the artifact, its files as inspection saw them, and the code that its MLmodel declares."""

    artifact: Artifact
    inspection: Inspection
    code: tuple[str, ...]


def artifact_read(*, actor: Actor, model_name: str, path: str | Path) -> Seen:
    """What lies at ``path``, below PILOTHOUSE_ARTIFACT_ROOTS, for a version of the model. Reads it all, so not in a
    transaction; nothing is loaded.

    Raises NotFound (model), Forbidden, InvalidInput and PolicyRefused ``format_refused``.
    """
    model = model_allowed(model_name, actor=actor, action=REGISTER)
    folder = path_below("/path", path, setting="PILOTHOUSE_ARTIFACT_ROOTS")
    artifact, inspection, code = read_inspected(folder)
    formats_judge(model, inspection, code)
    return Seen(artifact, inspection, code)


def _tell(actor: Actor, model: Model, version: ModelVersion) -> None:
    told = {"name": model.name, "version": str(version.number), "source": version.source_uri, "run_id": version.run_id}
    announce(model, "model_version", "created", {**told, "tags": {}, "description": version.description})
    told = {"digest": version.artifact_digest, "source": version.source_uri}
    version_record(actor, "version.registered", model, version, **told)


def _check_new(model: Model, number: Semver, artifact: Artifact) -> None:
    read = ("id", "major", "minor", "patch", "artifact_digest", "signature", "input_constraints")  # not their profiles
    known = {
        Semver(one.major, one.minor, one.patch): one
        for one in ModelVersion.everything.filter(model=model, major__isnull=False).only(*read)
        if one.major is not None and one.minor is not None and one.patch is not None
    }
    if number in known:
        raise Conflict(
            "version_exists",
            f"{model.name} {number} is registered already and never changes; take the next number.",
            extra={"version": known[number].id, "is_same_artifact": known[number].artifact_digest == artifact.digest},
        )
    signatures = {semver: signature_of(version) for semver, version in known.items()}
    check_semver(signatures, number, Signature.of(artifact.signature, artifact.input_constraints))


def _json(pointer: str, value: Mapping[str, Any] | None) -> dict[str, Any]:
    try:
        canonical_json(dict(value or {}))
    except (TypeError, ValueError) as error:
        raise InvalidInput.at(pointer, "not_json", f"{pointer[1:]} must be JSON without NaN or Infinity.") from error
    return dict(value or {})
