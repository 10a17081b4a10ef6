"""How an alias is really moved: its row, its history, what is told and kept. The caller has locked the model's row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from apps.audit.services.record import event_record
from apps.kernel.actor import Actor
from apps.kernel.clock import now
from apps.registry.models import Alias, AliasMove, Model, ModelVersion, PromotionRequest
from apps.registry.services.announce import announce


@dataclass(frozen=True, slots=True)
class Because:
    """What a move came by. ``people`` are those who approved, by id."""

    request: PromotionRequest | None = None
    review_id: str = ""
    rollout_id: str = ""
    people: Mapping[str, str] = field(default_factory=dict)


FREELY = Because()


def alias_row(model: Model, alias: str) -> Alias | None:
    """With its version and ``model`` itself."""
    row = Alias.objects.select_related("version").filter(model=model, name=alias).first()
    if row is not None:
        row.model = model
    return row


def alias_point(
    actor: Actor, model: Model, alias: str, row: Alias | None, chosen: ModelVersion, because: Because = FREELY
) -> Alias:
    """Point ``alias`` (``row`` where it is there already) at ``chosen``."""
    before = row.version if row is not None else None
    if row is None:
        row = Alias(model=model, name=alias)
    row.version, row.moved_at = chosen, now()
    row.save()
    _remember(actor, model, alias, before, chosen, because)
    Model.objects.filter(pk=model.pk).update(updated_at=row.moved_at)
    told = {"name": model.name, "alias": alias, "version": str(chosen.number)}
    announce(model, "model_version_alias", "created", told)
    _record(actor, "alias.moved", model, alias, before, chosen, because)
    return row


def aliases_to_nowhere(actor: Actor, model: Model, rows: Iterable[Alias], because: Because = FREELY) -> None:
    """Removes aliases of the model; their history says so."""
    for row in rows:
        _remember(actor, model, row.name, row.version, None, because)
        row.delete()
        announce(model, "model_version_alias", "deleted", {"name": model.name, "alias": row.name})
        _record(actor, "alias.removed", model, row.name, row.version, None, because)


def _remember(
    actor: Actor,
    model: Model,
    alias: str,
    before: ModelVersion | None,
    after: ModelVersion | None,
    because: Because,
) -> None:
    AliasMove.objects.create(
        model=model,
        name=alias,
        from_version=before,
        to_version=after,
        at=now(),
        moved_by=actor.label[:200],
        actor_kind=actor.kind,
        actor_id=actor.id[:80],
        request=because.request,
        review_id=because.review_id,
        rollout_id=because.rollout_id,
        people=[{"id": key, "name": name} for key, name in sorted(because.people.items())],
    )


def _record(
    actor: Actor,
    verb: str,
    model: Model,
    alias: str,
    before: ModelVersion | None,
    after: ModelVersion | None,
    because: Because,
) -> None:
    detail = {
        "alias": alias,
        "before": before.reference if before else "",
        "after": after.reference if after else "",
    }
    if because.request is not None:
        detail |= {
            "promotion": because.request.pk,
            "review": because.review_id,
            "rollout": because.rollout_id,
            "approved_by": ", ".join(sorted(because.people.values())),
        }
    event_record(
        actor=actor,
        verb=verb,
        subject_kind="model",
        subject_id=model.id,
        subject_label=f"{model.name}@{alias}",
        detail=detail,
    )
