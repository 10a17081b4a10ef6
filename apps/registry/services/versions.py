"""Versions: entered, described, staged, tagged, deleted. What is known of their bytes is settled in settle.py."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction

from apps.kernel.actor import Actor
from apps.kernel.clock import now
from apps.kernel.errors import Conflict, InvalidInput, PolicyRefused
from apps.kernel.services.outbox import enqueue_task
from apps.registry.domain import names
from apps.registry.domain.semver import Semver
from apps.registry.domain.words import Stage, Trust, VersionStatus
from apps.registry.models import Alias, Model, ModelVersion, VersionTag
from apps.registry.services.alias_rows import aliases_to_nowhere
from apps.registry.services.announce import announce, version_record
from apps.registry.services.counting import version_count
from apps.registry.services.deployed import refuse_deployed
from apps.registry.services.locks import model_locked, version_locked
from apps.registry.services.provenance import Provenance, provenance_columns
from apps.registry.services.settle import number_semver
from apps.registry.services.sources import registered_source
from apps.registry.services.verify import is_read_here

REGISTER, WRITE, DELETE, MOVE = "model.register", "model.write", "model.delete", "alias.move"
_ARCHIVING = frozenset({Stage.STAGING, Stage.PRODUCTION})
_COPIED = (
    *("storage_uri", "artifact_digest", "size_bytes", "flavor", "format", "inspection", "signature", "trust", "status"),
    *("input_constraints", "reference_profile", "metrics", "metrics_data_digest", "params", "git_commit", "lineage"),
)
_SAID = frozenset({"git_commit", "lineage"})
"""What a copy's author may say otherwise."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What the author says of a new version; nothing of it is believed but the words."""

    source: str
    run_id: str = ""
    run_link: str = ""
    mlflow_model_id: str = ""
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    provenance: Provenance = field(default_factory=Provenance)


def version_create(*, actor: Actor, model_name: str, entry: Entry) -> ModelVersion:
    """The next version of a model.

    1. a source that this installation can read: PENDING, and a worker is asked to verify it;
    2. ``models:/name/number`` of this registry: what is known of that version, copied now;
    3. any other source: READY at once and unverified, a catalogue entry whose source is never followed.

    Raises InvalidInput (source, texts, tags, provenance), NotFound (model, the version copied), Forbidden and Conflict
    (a semver tag that is taken; the number only is refused, nothing is entered).
    """
    wanted = _checked(entry)
    said = provenance_columns(actor, model_name, entry.provenance)
    with transaction.atomic():
        origin = registered_source(entry.source, actor=actor)
        moment = now()
        version = ModelVersion(
            semver_wanted=wanted,
            source_uri=entry.source,
            run_id=entry.run_id,
            run_link=entry.run_link,
            mlflow_model_id=entry.mlflow_model_id,
            description=entry.description,
            params=dict(entry.params),
            metrics=dict(entry.metrics),
            created_at=moment,
            updated_at=moment,
            created_by=actor.label,
            **said,
        )
        if origin is not None and "parent" in said:
            raise InvalidInput.at("/parent", "parent_given", "A copy is built from what it copies; leave this empty.")
        is_pending = _place(version, origin)
        counted = version_count(version, model_name, actor=actor, action=REGISTER)
        model = counted.model
        if origin is not None and origin.semver:
            number_semver(version)
            version.save(update_fields=["major", "minor", "patch"])
        kept = {key: value for key, value in entry.tags.items() if key != names.SEMVER_TAG}
        if kept:
            VersionTag.objects.bulk_create(VersionTag(version=version, key=key, value=kept[key]) for key in kept)
        if is_pending:
            enqueue_task("registry.verify_version", version_id=version.id)
        if counted.has_webhooks:
            told = {"name": model.name, "version": str(version.number), "source": entry.source, "run_id": entry.run_id}
            announce(model, "model_version", "created", {**told, "tags": kept, "description": entry.description})
        version_record(actor, "version.registered", model, version, source=entry.source, trust=str(version.trust))
    return version


def version_describe(*, actor: Actor, model_name: str, number: int, description: str) -> ModelVersion:
    """Raises InvalidInput, NotFound and Forbidden."""
    names.check_text(description, "description", names.MAX_DESCRIPTION)
    with transaction.atomic():
        model = model_locked(model_name, actor=actor, action=WRITE)
        version = version_locked(model, number)
        if version.description != description:
            before, version.description = version.description, description
            _touch(model, version, "description")
            announce(model, "model_version", "updated", {"name": model.name, "version": str(number)})
            version_record(actor, "version.described", model, version, before=before[:500], after=description[:500])
    return version


def version_card_set(*, actor: Actor, model_name: str, number: int, card: str) -> ModelVersion:
    """Replaces the model card (Markdown); empty brings the generated one back.

    Raises InvalidInput, NotFound and Forbidden.
    """
    names.check_text(card, "card", names.MAX_DESCRIPTION)
    with transaction.atomic():
        model = model_locked(model_name, actor=actor, action=WRITE)
        version = version_locked(model, number)
        if version.card != card:
            before, version.card = version.card, card
            _touch(model, version, "card")
            announce(model, "model_version", "updated", {"name": model.name, "version": str(number)})
            version_record(actor, "version.card_written", model, version, before=before[:500], after=card[:500])
    return version


def version_stage(
    *, actor: Actor, model_name: str, number: int, stage: Stage, archive_existing: bool = False
) -> ModelVersion:
    """Moves a version to a stage; with ``archive_existing`` whatever is in that stage goes to Archived first.

    Raises InvalidInput (archiving for a stage that is none), NotFound, Forbidden, and Conflict ``stage_taken``:
    Production holds one version, so moving another one there needs ``archive_existing``.
    """
    if archive_existing and stage not in _ARCHIVING:
        raise InvalidInput.at(
            "/archive_existing_versions",
            "bad_value",
            f"Model version transition cannot archive existing model versions because '{stage.value.capitalize()}' "
            "is not an Active stage. Valid stages are ['Staging', 'Production']",
        )
    with transaction.atomic():
        model = model_locked(model_name, actor=actor, action=MOVE)
        version = version_locked(model, number)
        others = ModelVersion.objects.filter(model=model, stage=stage).exclude(pk=version.pk)
        moment = now()
        if archive_existing:
            others.update(stage=Stage.ARCHIVED, updated_at=moment)
        elif stage is Stage.PRODUCTION and (there := others.first()) is not None:
            raise Conflict(
                "stage_taken",
                f"Version {there.number} of {model.name} is in Production, which holds one version; "
                "pass archive_existing_versions=True to archive it.",
                extra={"version": there.number},
            )
        if version.stage != stage or archive_existing:
            before, version.stage = version.stage, stage
            _touch(model, version, "stage")
            told = {"name": model.name, "version": str(number), "from_stage": before, "to_stage": stage.value}
            announce(model, "model_version", "stage_changed", told)
            version_record(actor, "version.staged", model, version, before=before, after=stage.value)
    return version


def version_delete(*, actor: Actor, model_name: str, number: int, reason: str = "") -> None:
    """Hides a version and takes its aliases away; its row, number and semver stay. ``reason`` goes to the audit log.

    Raises NotFound, Forbidden, and PolicyRefused while a protected alias points at it (``alias_protected``) or an
    endpoint runs it (``version_deployed``).
    """
    with transaction.atomic():
        model = model_locked(model_name, actor=actor, action=DELETE)
        version = version_locked(model, number)
        refuse_deployed(actor, model, version)
        held = list(Alias.objects.filter(version=version).order_by("name"))
        protected = [alias.name for alias in held if alias.name in model.protected_aliases]
        if protected and "*" not in actor.actions:
            raise PolicyRefused(
                "alias_protected",
                f"Version {number} of {model.name} is {', '.join(protected)}; move the alias first, then delete it.",
                extra={"aliases": protected},
            )
        aliases_to_nowhere(actor, model, held)
        version.deleted_at = now()
        _touch(model, version, "deleted_at")
        announce(model, "model_version", "deleted", {"name": model.name, "version": str(number)})
        why = {"reason": reason[:2000]} if reason else {}
        version_record(actor, "version.deleted", model, version, aliases=[alias.name for alias in held], **why)


def version_tag_set(*, actor: Actor, model_name: str, number: int, key: str, value: str) -> None:
    """Raises InvalidInput (also for the read-only semver tag), NotFound and Forbidden."""
    _writable(key, value)
    with transaction.atomic():
        model = model_locked(model_name, actor=actor, action=WRITE)
        version = version_locked(model, number)
        VersionTag.objects.update_or_create(version=version, key=key, defaults={"value": value})
        _touch(model, version)
        told = {"name": model.name, "version": str(number), "key": key}
        announce(model, "model_version_tag", "set", {**told, "value": value})
        version_record(actor, "version.tagged", model, version, key=key, value=value[:500])


def version_tag_remove(*, actor: Actor, model_name: str, number: int, key: str) -> None:
    """A key that is not there is no fault. Raises InvalidInput, NotFound and Forbidden."""
    _writable(key, "")
    with transaction.atomic():
        model = model_locked(model_name, actor=actor, action=WRITE)
        version = version_locked(model, number)
        if VersionTag.objects.filter(version=version, key=key).delete()[0]:
            _touch(model, version)
            told = {"name": model.name, "version": str(number), "key": key}
            announce(model, "model_version_tag", "deleted", told)
            version_record(actor, "version.untagged", model, version, key=key)


def _checked(entry: Entry) -> str:
    """Everything that needs no database; returns the semver that the author asked for, or ""."""
    if not entry.source:
        raise InvalidInput.at("/source", "bad_value", "Missing value for required parameter 'source'.")
    names.check_text(entry.source, "source", names.MAX_SOURCE)
    names.check_text(entry.run_link, "run_link", names.MAX_SOURCE)
    names.check_text(entry.description, "description", names.MAX_DESCRIPTION)
    for name, text in (("run_id", entry.run_id), ("model_id", entry.mlflow_model_id)):
        if text and not re.fullmatch(r"[A-Za-z0-9][\w\-]{0,63}", text):
            raise InvalidInput.at(f"/{name}", "bad_value", f"Invalid value '{text[:80]}' for parameter '{name}'.")
    for key, value in entry.tags.items():
        names.check_tag(key, value)
    wanted = entry.tags.get(names.SEMVER_TAG, "")
    return str(Semver.parse(wanted)) if wanted else ""


def _place(version: ModelVersion, origin: ModelVersion | None) -> bool:
    """Status and trust of a new version; True when a worker must look at its source."""
    if origin is not None:
        for name in _COPIED:
            if not (name in _SAID and getattr(version, name)):
                setattr(version, name, getattr(origin, name))
        version.parent = origin
        version.run_id = version.run_id or origin.run_id
        return False
    if is_read_here(version.source_uri, version.created_by, version.mlflow_model_id):
        version.status = VersionStatus.PENDING
        return True
    version.status, version.trust = VersionStatus.READY, Trust.UNVERIFIED
    return False


def _writable(key: str, value: str) -> None:
    names.check_tag(key, value)
    if key == names.SEMVER_TAG:
        raise InvalidInput.at("/key", "read_only", f"The tag '{key}' is read-only: the signature decides the semver.")


def _touch(model: Model, version: ModelVersion, *fields: str) -> None:
    version.updated_at = now()
    version.save(update_fields=[*fields, "updated_at"])
    Model.objects.filter(pk=model.pk).update(updated_at=version.updated_at)
