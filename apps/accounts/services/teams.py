"""Teams, and the service accounts that they own."""

from __future__ import annotations

import re

from django.db import IntegrityError, transaction

from apps.accounts.models import Team, User, UserKind
from apps.accounts.services.access import access_require
from apps.audit.services.record import event_record
from apps.kernel.actor import ANY, Actor
from apps.kernel.errors import Conflict, InvalidInput

_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")


def team_create(*, actor: Actor, slug: str, name: str = "") -> Team:
    """A team without members. Raises Forbidden, InvalidInput, Conflict (slug taken)."""
    access_require(actor, "team.write", ANY, ANY)
    _check_slug(slug, "/slug")
    team = Team(slug=slug, name=_checked_name(name or slug))
    with transaction.atomic():
        try:
            with transaction.atomic():
                team.save(force_insert=True)
        except IntegrityError as error:
            raise Conflict("team_exists", f"There is a team {slug} already.") from error
        _record(actor, "team.created", "team", team.pk, team.slug, {"name": team.name})
    return team


def team_rename(*, actor: Actor, team: Team, name: str) -> Team:
    """Another name; the slug and the id stay, since others refer to them."""
    access_require(actor, "team.write", team.pk, ANY)
    before, team.name = team.name, _checked_name(name)
    with transaction.atomic():
        team.save(update_fields=["name"])
        _record(actor, "team.renamed", "team", team.pk, team.slug, {"before": before, "after": team.name})
    return team


def service_create(*, actor: Actor, team: Team, name: str) -> User:
    """A principal without password or sign-in, owned by ``team``, called ``<team>.<name>``. No roles yet."""
    access_require(actor, "service.write", team.pk, ANY)
    _check_slug(name, "/name")
    user = User(username=f"{team.slug}.{name}", kind=UserKind.SERVICE.value, owner_team=team)
    user.set_unusable_password()
    with transaction.atomic():
        try:
            with transaction.atomic():
                user.save(force_insert=True)
        except IntegrityError as error:
            raise Conflict("username_taken", f"There is an account named {user.username} already.") from error
        _record(actor, "service.created", "user", str(user.pk), user.username, {"team": team.slug})
    return user


def _check_slug(slug: str, pointer: str) -> None:
    if not _SLUG.fullmatch(slug):
        raise InvalidInput.at(
            pointer, "bad_slug", "1 to 40 lower-case letters, digits and hyphens; no hyphen at the ends."
        )


def _checked_name(name: str) -> str:
    if not 1 <= len(name.strip()) <= 80:
        raise InvalidInput.at("/name", "bad_name", "Name the team with 1 to 80 characters.")
    return name.strip()


def _record(actor: Actor, verb: str, kind: str, subject_id: str, label: str, detail: dict[str, object]) -> None:
    event_record(actor=actor, verb=verb, subject_kind=kind, subject_id=subject_id, subject_label=label, detail=detail)
