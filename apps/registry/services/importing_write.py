"""One model of another server, written here as far as it differs. Everything in one transaction per model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.db import transaction

from apps.accounts.selectors import team_get
from apps.audit.services.record import event_record
from apps.kernel.actor import SYSTEM
from apps.kernel.clock import now
from apps.kernel.errors import InvalidInput
from apps.registry.domain.importing import RemoteModel, RemoteVersion
from apps.registry.domain.names import check_model_name, check_new_alias
from apps.registry.domain.words import ModelKind, Stage, Trust, VersionStatus
from apps.registry.models import (
    Alias,
    AliasMove,
    ImportedModel,
    ImportJob,
    Model,
    ModelTag,
    ModelVersion,
    VersionTag,
)


class ModelSkipped(InvalidInput):
    """This model is not taken over; the text says why."""


@dataclass(slots=True)
class Written:
    """Rows made or changed. ``notes`` say what could not be taken over as it is."""

    models: int = 0
    versions: int = 0
    tags: int = 0
    aliases: int = 0
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        return self.models + self.versions + self.tags + self.aliases


def model_import(job: ImportJob, remote: RemoteModel) -> Written:
    """Make the model here what it is there. Nothing is deleted, and nothing written where nothing differs.

    Raises ModelSkipped: the name belongs to a model made here, or one of its versions is another one here.
    """
    check_model_name(remote.name)
    done = Written()
    with transaction.atomic():
        model = _model(job, remote, done)
        versions = _versions(model, remote, done)
        done.tags += _tags(ModelTag, "model", model, remote.tags)
        _aliases(model, remote, versions, done)
        following = max((one.number for one in remote.versions), default=0) + 1
        if model.next_number < following:
            Model.everything.filter(pk=model.pk).update(next_number=following)
        if done.total:
            event_record(
                actor=SYSTEM,
                verb="model.imported",
                subject_kind="model",
                subject_id=model.pk,
                subject_label=model.name,
                detail={
                    "from": job.url,
                    "import": job.pk,
                    "models": done.models,
                    "versions": done.versions,
                    "tags": done.tags,
                    "aliases": done.aliases,
                },
            )
    return done


def _model(job: ImportJob, remote: RemoteModel, done: Written) -> Model:
    known = ImportedModel.objects.filter(job=job, remote_name=remote.name).first()
    if known is None:
        return _new_model(job, remote, done)
    model = Model.everything.select_for_update().get(pk=known.model_id)
    if model.deleted_at is not None:
        raise ModelSkipped("import_deleted", "It was imported and deleted here since; it stays deleted.")
    told: dict[str, str | datetime] = {"description": remote.description, "updated_at": remote.updated_at}
    if model.updated_at > remote.updated_at:
        del told["updated_at"]  # something was done to it here meanwhile
    done.models += _changed(model, told)
    return model


def _new_model(job: ImportJob, remote: RemoteModel, done: Written) -> Model:
    if Model.everything.filter(name=remote.name).exists():
        raise ModelSkipped(
            "import_name_taken",
            "There is, or was, a model of that name here that this import did not make; rename one.",
        )
    model = Model.objects.create(
        name=remote.name,
        kind=ModelKind.PROMPT if remote.is_prompt else ModelKind.MODEL,
        team=team_get(job.team_key),
        protected_aliases=[] if remote.is_prompt else ["champion", "production"],
        description=remote.description,
        created_at=remote.created_at,
        updated_at=remote.updated_at,
        created_by=remote.created_by or job.url[:200],
    )
    ImportedModel.objects.create(job=job, model=model, remote_name=remote.name)
    done.models += 1
    return model


def _versions(model: Model, remote: RemoteModel, done: Written) -> dict[int, ModelVersion]:
    here = {one.number: one for one in ModelVersion.everything.filter(model=model)}
    wanted, demoted = _one_in_production(remote.versions)
    if demoted:
        done.notes += (f"Versions {demoted} were in Production beside a newer one and are Archived here.",)
    # Production last: it holds one version, and the one that leaves must have left.
    for one in sorted(wanted, key=lambda one: (one.stage is Stage.PRODUCTION, one.number)):
        row = here.get(one.number)
        if row is None:
            here[one.number] = _new_version(model, one)
            done.versions += 1
        elif row.deleted_at is None:
            done.versions += _update_version(row, one)
    have = {
        tag["version_id"] for tag in VersionTag.objects.filter(version__model=model).values("version_id").distinct()
    }
    for one in wanted:
        row = here[one.number]
        if row.deleted_at is None and (one.tags or row.pk in have):
            done.tags += _tags(VersionTag, "version", row, one.tags)
    return here


def _new_version(model: Model, one: RemoteVersion) -> ModelVersion:
    return ModelVersion.objects.create(
        model=model,
        number=one.number,
        status=VersionStatus.FAILED if one.is_failed else VersionStatus.READY,
        status_message=one.status_message,
        stage=one.stage,
        trust=Trust.UNVERIFIED,
        source_uri=one.source,
        run_id=one.run_id,
        run_link=one.run_link,
        mlflow_model_id=one.model_id,
        description=one.description,
        created_at=one.created_at,
        updated_at=one.updated_at,
        created_by=one.created_by or model.created_by,
    )


def _update_version(row: ModelVersion, one: RemoteVersion) -> int:
    if row.source_uri != one.source:
        raise ModelSkipped(
            "import_other_version",
            f"Version {one.number} here comes from {row.source_uri[:200]}, there from {one.source[:200]}.",
        )
    told: dict[str, Any] = {"description": one.description, "stage": one.stage}
    if row.updated_at < one.updated_at:
        told["updated_at"] = one.updated_at
    return _changed(row, told)


def _one_in_production(versions: tuple[RemoteVersion, ...]) -> tuple[list[RemoteVersion], str]:
    """A model has one version in Production here: the newest stays, the others count as archived."""
    there = [one.number for one in versions if one.stage is Stage.PRODUCTION]
    older = set(there[:-1])
    kept = [replace(one, stage=Stage.ARCHIVED) if one.number in older else one for one in versions]
    return kept, ", ".join(str(number) for number in sorted(older))


def _tags(kind: Any, owner: str, row: Any, wanted: Mapping[str, str]) -> int:
    here = {one.key: one for one in kind.objects.filter(**{owner: row})}
    fresh = [kind(**{owner: row}, key=key, value=value) for key, value in wanted.items() if key not in here]
    kind.objects.bulk_create(fresh)
    other = [(here[key], value) for key, value in wanted.items() if key in here and here[key].value != value]
    for tag, value in other:
        tag.value = value
        tag.save(update_fields=["value"])
    return len(fresh) + len(other)


def _aliases(model: Model, remote: RemoteModel, versions: Mapping[int, ModelVersion], done: Written) -> None:
    here = {one.name: one for one in Alias.objects.filter(model=model)}
    for name, number in sorted(remote.aliases.items()):
        version = versions[number]
        row = here.get(name)
        if version.deleted_at is not None or (row is not None and row.version_id == version.pk):
            continue
        try:
            check_new_alias(name)
        except InvalidInput as fault:
            done.notes += (fault.detail,)
            continue
        before = row.version_id if row else None
        Alias.objects.update_or_create(model=model, name=name, defaults={"version": version, "moved_at": now()})
        AliasMove.objects.create(
            model=model,
            name=name,
            from_version_id=before,
            to_version=version,
            at=now(),
            moved_by=SYSTEM.label,
            actor_kind=SYSTEM.kind,
            actor_id=SYSTEM.id,
        )
        done.aliases += 1


def _changed(row: Model | ModelVersion, told: Mapping[str, str | datetime]) -> int:
    fields = [name for name, value in told.items() if getattr(row, name) != value]
    for name in fields:
        setattr(row, name, told[name])
    if fields:
        row.save(update_fields=fields)
    return int(bool(fields))
