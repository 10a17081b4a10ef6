"""Aliases: moved and taken away. The protected ones by a request only (promotion.py)."""

from __future__ import annotations

import re

from django.db import transaction

from apps.kernel.actor import Actor
from apps.kernel.errors import Conflict, InvalidInput
from apps.registry.domain.names import check_alias, check_new_alias
from apps.registry.domain.semver import looks_like_version
from apps.registry.models import Alias, Model, ModelVersion, PromotionRequest
from apps.registry.selectors import version_by
from apps.registry.services.alias_rows import alias_point, alias_row, aliases_to_nowhere
from apps.registry.services.locks import model_locked, version_locked
from apps.registry.services.promotion import PromotionAsked, promotion_ask, promotion_needed

__all__ = ["PromotionAsked", "alias_move", "alias_remove", "alias_set"]

_ALIAS = re.compile(r"[a-z][a-z0-9_-]{0,79}", re.ASCII)
MOVE = "alias.move"


def alias_move(*, actor: Actor, model_name: str, alias: str, version: str, expected: str | None = None) -> Alias:
    """Point ``alias`` at ``version`` (semver, number or another alias); made where it is missing.

    ``expected`` is the version that the caller saw under the alias ("" for none); when it has moved on, Conflict
    ``alias_moved``. Moving to where it already points changes nothing.
    Raises InvalidInput, NotFound, Forbidden, PromotionAsked.
    """
    if not _ALIAS.fullmatch(alias) or looks_like_version(alias):
        detail = (
            "An alias begins with a small letter, has small letters, digits, hyphens, and does not look like a version."
        )
        raise InvalidInput.at("/alias", "bad_alias", detail)
    check_new_alias(alias)
    with transaction.atomic():
        model = model_locked(model_name, actor=actor, action=MOVE)
        chosen = version_by(model_name, version)
        row = alias_row(model, alias)
        _unmoved(alias, row, expected)
        moved = _point_or_ask(actor, model, alias, row, chosen)
    return _or_raise(moved)


def alias_set(*, actor: Actor, model_name: str, alias: str, number: int) -> Alias:
    """The same by MLflow's rules of names, and by number. Raises the same."""
    check_new_alias(alias)
    with transaction.atomic():
        model = model_locked(model_name, actor=actor, action=MOVE)
        chosen = version_locked(model, number)
        moved = _point_or_ask(actor, model, alias, alias_row(model, alias), chosen)
    return _or_raise(moved)


def alias_remove(*, actor: Actor, model_name: str, alias: str, expected: str | None = None) -> None:
    """Take an alias away; one that is not there is no fault. ``expected`` as for ``alias_move``.

    Raises InvalidInput, NotFound, Forbidden, Conflict ``alias_moved``, PromotionAsked.
    """
    check_alias(alias)
    asked = None
    with transaction.atomic():
        model = model_locked(model_name, actor=actor, action=MOVE)
        row = alias_row(model, alias)
        if row is None:
            return  # whoever removed it did what is asked for here
        _unmoved(alias, row, expected)
        if promotion_needed(actor, model, alias):
            asked = promotion_ask(actor, model, row, alias, None)
        else:
            aliases_to_nowhere(actor, model, [row])
    if asked is not None:
        raise PromotionAsked.of(asked)


def _unmoved(alias: str, row: Alias | None, expected: str | None) -> None:
    """Raises Conflict ``alias_moved`` unless the alias points where the caller saw it."""
    current = row.version.reference if row else ""
    if expected is not None and expected != current:
        raise Conflict(
            "alias_moved",
            f"{alias} points at {current or 'nothing'}, not at {expected or 'nothing'}; look again.",
            extra={"alias": alias, "current": current},
        )


def _point_or_ask(
    actor: Actor, model: Model, alias: str, row: Alias | None, chosen: ModelVersion
) -> Alias | PromotionRequest:
    if row is not None and row.version_id == chosen.id:
        return row
    if promotion_needed(actor, model, alias):
        return promotion_ask(actor, model, row, alias, chosen)
    return alias_point(actor, model, alias, row, chosen)


def _or_raise(moved: Alias | PromotionRequest) -> Alias:
    """Outside the transaction: the request must outlive the error that tells of it."""
    if isinstance(moved, Alias):
        return moved
    raise PromotionAsked.of(moved)
