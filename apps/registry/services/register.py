"""Models, versions and aliases: the writes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.db import IntegrityError, transaction

from apps.audit.services.record import event_record
from apps.kernel.actor import Actor
from apps.kernel.canonical import canonical_json
from apps.kernel.clock import now
from apps.kernel.errors import Conflict, InvalidInput, NotFound
from apps.kernel.roots import path_below
from apps.registry.domain.compatibility import check_semver
from apps.registry.domain.semver import Semver, looks_like_version
from apps.registry.domain.signature import Signature
from apps.registry.drivers.artifacts import Artifact, read_artifact
from apps.registry.models import Alias, Model, ModelVersion
from apps.registry.selectors import signature_of, version_by

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
_ALIAS = re.compile(r"[a-z][a-z0-9_-]{0,79}", re.ASCII)


def model_create(*, actor: Actor, name: str, description: str = "") -> Model:
    """A model without versions. Raises InvalidInput (name) and Conflict (name taken)."""
    if not _NAME.fullmatch(name):
        detail = (
            "A model name has 1 to 100 letters, digits, dots, hyphens or underscores and begins with a letter or digit."
        )
        raise InvalidInput.at("/name", "bad_name", detail)
    with transaction.atomic():
        try:
            with transaction.atomic():
                model = Model.objects.create(
                    name=name, description=description, created_at=now(), created_by=actor.label
                )
        except IntegrityError as error:
            raise Conflict("model_exists", f"There is a model {name} already.", extra={"model": name}) from error
        event_record(
            actor=actor, verb="model.created", subject_kind="model", subject_id=model.id, subject_label=model.name
        )
    return model


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
    artifact: Artifact | None = None,
) -> ModelVersion:
    """An immutable version of the artifact at ``path``, which stays where it is; its digest is kept.

    ``artifact``: what ``read_artifact(path)`` found a moment ago, for a caller who is in a transaction by now.

    Raises InvalidInput (semver, path and what lies there, metrics), NotFound (model), Conflict (semver taken) and
    PolicyRefused ``major_bump_required`` (the signature breaks callers of the same major version).
    """
    number = Semver.parse(semver)
    _check_json("/metrics", metrics)
    _check_json("/params", params)
    # Hashing may take long: before the transaction, so that the model's row is not locked meanwhile.
    artifact = artifact or artifact_read(path)
    with transaction.atomic():
        model = _locked(model_name)
        _check_new(model, number, artifact)
        version = ModelVersion.objects.create(
            model=model,
            number=model.next_number,
            major=number.major,
            minor=number.minor,
            patch=number.patch,
            source_uri=artifact.uri,
            artifact_digest=artifact.digest,
            size_bytes=artifact.size_bytes,
            flavor=artifact.flavor,
            signature=artifact.signature,
            input_constraints=artifact.input_constraints,
            metrics=dict(metrics or {}),
            params=dict(params or {}),
            run_id=run_id[:64],
            description=description,
            created_at=now(),
            created_by=actor.label,
        )
        model.next_number += 1
        model.save(update_fields=["next_number"])
        event_record(
            actor=actor,
            verb="version.registered",
            subject_kind="version",
            subject_id=version.id,
            subject_label=f"{model.name} {version.semver}",
            detail={"number": version.number, "digest": artifact.digest, "source": artifact.uri},
        )
    return version


def artifact_read(path: str | Path) -> Artifact:
    """What lies at ``path``, below PILOTHOUSE_ARTIFACT_ROOTS. Reads it all, so not in a transaction.

    Raises InvalidInput.
    """
    return read_artifact(path_below("/path", path, setting="PILOTHOUSE_ARTIFACT_ROOTS"))


def alias_move(*, actor: Actor, model_name: str, alias: str, version: str, expected: str | None = None) -> Alias:
    """Point ``alias`` at ``version`` (semver, number or another alias); made where it is missing.

    ``expected`` is the semver that the caller saw under the alias ("" for none); when it has moved on, Conflict
    ``alias_moved``. Moving to where it already points changes nothing. Raises InvalidInput and NotFound.
    """
    if not _ALIAS.fullmatch(alias) or looks_like_version(alias):
        detail = (
            "An alias begins with a small letter, has small letters, digits, hyphens, and does not look like a version."
        )
        raise InvalidInput.at("/alias", "bad_alias", detail)
    with transaction.atomic():
        model = _locked(model_name)
        chosen = version_by(model_name, version)
        row = Alias.objects.select_related("version").filter(model=model, name=alias).first()
        before = row.version.semver if row else ""
        if expected is not None and expected != before:
            raise Conflict(
                "alias_moved",
                f"{alias} points at {before or 'nothing'}, not at {expected or 'nothing'}; look again.",
                extra={"alias": alias, "current": before},
            )
        if row is None:
            row = Alias(model=model, name=alias, version=chosen)
        elif row.version_id == chosen.id:
            return row
        row.version, row.moved_at = chosen, now()
        row.save()
        event_record(
            actor=actor,
            verb="alias.moved",
            subject_kind="model",
            subject_id=model.id,
            subject_label=f"{model.name}@{alias}",
            detail={"alias": alias, "before": before, "after": chosen.semver},
        )
    return row


def _locked(model_name: str) -> Model:
    """The model, its row locked: numbers, semvers and aliases of one model change one at a time."""
    model = Model.objects.select_for_update().filter(name=model_name).first()
    if model is None:
        raise NotFound("model_unknown", f"There is no model {model_name}.")
    return model


def _check_new(model: Model, number: Semver, artifact: Artifact) -> None:
    known = {Semver(one.major, one.minor, one.patch): one for one in ModelVersion.objects.filter(model=model)}
    if number in known:
        raise Conflict(
            "version_exists",
            f"{model.name} {number} is registered already and never changes; take the next number.",
            extra={"version": known[number].id, "is_same_artifact": known[number].artifact_digest == artifact.digest},
        )
    signatures = {semver: signature_of(version) for semver, version in known.items()}
    check_semver(signatures, number, Signature.of(artifact.signature, artifact.input_constraints))


def _check_json(pointer: str, value: Mapping[str, Any] | None) -> None:
    try:
        canonical_json(dict(value or {}))
    except (TypeError, ValueError) as error:
        raise InvalidInput.at(pointer, "not_json", f"{pointer[1:]} must be JSON without NaN or Infinity.") from error
