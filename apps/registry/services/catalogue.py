"""Models: made, described, renamed, tagged, deleted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Max

from apps.accounts.services.access import team_for
from apps.audit.services.record import event_record
from apps.kernel.actor import Actor
from apps.kernel.clock import now
from apps.kernel.errors import Conflict, InvalidInput, PolicyRefused
from apps.registry.domain.names import (
    IS_PROMPT_TAG,
    MAX_DESCRIPTION,
    check_model_name,
    check_new_alias,
    check_tag,
    check_text,
)
from apps.registry.domain.words import ModelKind
from apps.registry.models import Alias, Model, ModelTag, ModelVersion
from apps.registry.services.alias_rows import aliases_to_nowhere
from apps.registry.services.announce import announce
from apps.registry.services.deployed import refuse_deployed
from apps.registry.services.locks import model_locked
from apps.registry.services.promotion import promotion_needed

WRITE, DELETE = "model.write", "model.delete"


def model_register(
    *, actor: Actor, name: str, description: str = "", tags: Mapping[str, str] | None = None, team: str = ""
) -> Model:
    """A model without versions. Under the name of a deleted one it goes on counting where that one stopped.

    ``team`` (id or slug) owns it; without one, the team that the actor registers models for.
    Raises InvalidInput (name, tags, team), NotFound (team), Forbidden and Conflict ``model_exists``.
    """
    tags = dict(tags or {})
    check_model_name(name)
    check_text(description, "description", MAX_DESCRIPTION)
    for key, value in tags.items():
        check_tag(key, value)
    owner = team_for(actor, "model.register", team)
    is_prompt = tags.get(IS_PROMPT_TAG, "").lower() == "true"
    moment = now()
    with transaction.atomic():
        model = Model(
            name=name,
            team=owner,
            kind=ModelKind.PROMPT if is_prompt else ModelKind.MODEL,
            protected_aliases=[] if is_prompt else ["champion", "production"],
            description=description,
            next_number=_next_number(name),
            created_at=moment,
            updated_at=moment,
            created_by=actor.label,
        )
        _save_new(model)
        ModelTag.objects.bulk_create(ModelTag(model=model, key=key, value=value) for key, value in tags.items())
        announce(model, "registered_model", "created", {"name": name, "tags": tags, "description": description})
        _record(actor, "model.created", model)
    return model


def model_describe(*, actor: Actor, name: str, description: str) -> Model:
    """Replaces the description. Raises InvalidInput, NotFound and Forbidden."""
    check_text(description, "description", MAX_DESCRIPTION)
    with transaction.atomic():
        model = model_locked(name, actor=actor, action=WRITE)
        if model.description != description:
            before, model.description = model.description, description
            _touch(model, "description")
            announce(model, "registered_model", "updated", {"name": name, "description": description})
            _record(actor, "model.described", model, before=before[:500], after=description[:500])
    return model


def model_protect(*, actor: Actor, name: str, aliases: Iterable[str], reason: str) -> Model:
    """Replaces the list of aliases that move by a promotion request only. It is a policy (``policy.write`` in the
    model's team), so nobody changes it who only registers or ships. Open requests stay as they are.

    Raises InvalidInput (aliases, reason), NotFound and Forbidden.
    """
    wanted = sorted(set(aliases))
    for alias in wanted:
        check_new_alias(alias)
    if not reason.strip():
        raise InvalidInput.at("/reason", "reason_missing", "Say why; it is kept in the audit log.")
    with transaction.atomic():
        model = model_locked(name, actor=actor, action="policy.write")
        before = sorted(model.protected_aliases)
        if before != wanted:
            model.protected_aliases = wanted
            _touch(model, "protected_aliases")
            _record(actor, "model.protected", model, before=before, after=wanted, reason=reason[:2000])
    return model


def model_rename(*, actor: Actor, name: str, new_name: str) -> Model:
    """Another name for the model; the old one leaves a tombstone, so that a new model of that name does not count
    from 1 again. Raises InvalidInput, NotFound, Forbidden and Conflict ``model_exists``."""
    check_model_name(new_name, "new_name")
    with transaction.atomic():
        model = model_locked(name, actor=actor, action=WRITE)
        if new_name == name:
            return model
        moment = now()
        model.next_number = max(model.next_number, _next_number(new_name))
        model.name = new_name
        model.updated_at = moment
        _save_new(model, update=("name", "next_number", "updated_at"))
        Model.everything.create(
            name=name,
            team_id=model.team_id,
            kind=model.kind,
            next_number=model.next_number,
            created_at=moment,
            updated_at=moment,
            deleted_at=moment,
            created_by=actor.label,
        )
        announce(model, "registered_model", "renamed", {"name": name, "new_name": new_name})
        _record(actor, "model.renamed", model, before=name, after=new_name)
    return model


def model_delete(*, actor: Actor, name: str, reason: str = "") -> None:
    """Hides the model, its versions and aliases; rows, numbers and history stay. ``reason`` goes to the audit log.

    Raises NotFound, Forbidden, and PolicyRefused while a protected alias points at one of them (``alias_protected``) or
    an endpoint runs one (``version_deployed``).
    """
    with transaction.atomic():
        model = model_locked(name, actor=actor, action=DELETE)
        refuse_deployed(actor, model)
        moment = now()
        held = list(Alias.objects.filter(model=model).select_related("version").order_by("name"))
        protected = [alias.name for alias in held if promotion_needed(actor, model, alias.name)]
        if protected:
            raise PolicyRefused(
                "alias_protected",
                f"{name} has the protected alias {', '.join(protected)}; ask for it to be taken away first.",
                extra={"aliases": protected},
            )
        aliases_to_nowhere(actor, model, held)
        count = ModelVersion.objects.filter(model=model).update(deleted_at=moment, updated_at=moment)
        model.deleted_at = moment
        _touch(model, "deleted_at")
        announce(model, "registered_model", "deleted", {"name": name})
        why = {"reason": reason[:2000]} if reason else {}
        _record(actor, "model.deleted", model, versions=count, **why)


def model_tag_set(*, actor: Actor, name: str, key: str, value: str) -> None:
    """Raises InvalidInput, NotFound and Forbidden."""
    check_tag(key, value)
    with transaction.atomic():
        model = model_locked(name, actor=actor, action=WRITE)
        ModelTag.objects.update_or_create(model=model, key=key, defaults={"value": value})
        _touch(model)
        announce(model, "registered_model_tag", "set", {"name": name, "key": key, "value": value})
        _record(actor, "model.tagged", model, key=key, value=value[:500])


def model_tag_remove(*, actor: Actor, name: str, key: str) -> None:
    """A key that is not there is no fault. Raises InvalidInput, NotFound and Forbidden."""
    check_tag(key, "")
    with transaction.atomic():
        model = model_locked(name, actor=actor, action=WRITE)
        if ModelTag.objects.filter(model=model, key=key).delete()[0]:
            _touch(model)
            announce(model, "registered_model_tag", "deleted", {"name": name, "key": key})
            _record(actor, "model.untagged", model, key=key)


def _next_number(name: str) -> int:
    """Where a model of this name goes on counting: above every model that ever had it."""
    return Model.everything.filter(name=name).aggregate(last=Max("next_number"))["last"] or 1


def _save_new(model: Model, *, update: tuple[str, ...] = ()) -> None:
    """Raises Conflict when a living model has the name."""
    try:
        with transaction.atomic():
            if update:
                model.save(update_fields=update)
            else:
                model.save(force_insert=True)
    except IntegrityError as error:
        raise Conflict(
            "model_exists", f"There is a model {model.name} already.", extra={"model": model.name}
        ) from error


def _touch(model: Model, *fields: str) -> None:
    model.updated_at = now()
    model.save(update_fields=[*fields, "updated_at"])


def _record(actor: Actor, verb: str, model: Model, **detail: Any) -> None:
    event_record(
        actor=actor, verb=verb, subject_kind="model", subject_id=model.id, subject_label=model.name, detail=detail
    )
