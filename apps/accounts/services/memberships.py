"""Who has which role where: given and taken by an admin of that place, never given to oneself."""

from __future__ import annotations

from django.db import transaction

from apps.accounts.domain.roles import Environment, Role
from apps.accounts.models import Membership, Team, User, UserKind
from apps.accounts.services.access import access_require
from apps.audit.services.record import event_record
from apps.kernel.actor import ANY, Actor
from apps.kernel.errors import Conflict, Forbidden, InvalidInput, NotFound

HUMANS_ONLY = frozenset({Role.APPROVER, Role.AUDITOR, Role.ADMIN})


def membership_give(
    *, actor: Actor, user: User, role: Role, team: Team | None = None, environment: str = ""
) -> Membership:
    """Give ``user`` a role in one team (None: every one) and environment ("": every one); twice changes nothing.

    Raises Forbidden (no right there; oneself), NotFound (a team one may not see), InvalidInput.
    """
    _check_place(user, role, team, environment)
    access_require(actor, "member.write", team.pk if team else ANY, environment or ANY)
    if str(user.pk) in actor.people:
        raise Forbidden("own_roles", "Nobody gives a role to themselves; ask another admin.")
    with transaction.atomic():
        row, is_new = Membership.objects.get_or_create(user=user, role=role.value, team=team, environment=environment)
        if is_new:
            _record(actor, "user.role_given", row)
    return row


def membership_take(*, actor: Actor, membership_id: int, user: User | None = None) -> None:
    """Take a role away; one's own too. Raises NotFound, Forbidden, Conflict (the last admin stays)."""
    with transaction.atomic():
        admins_lock()
        found = Membership.objects.select_related("user", "team").filter(pk=membership_id)
        row = (found.filter(user=user) if user else found).first()
        if row is None:
            raise NotFound("membership_unknown", "There is no such role to take.")
        if str(row.user_id) not in actor.people or actor.kind != "user":
            access_require(actor, "member.write", row.team_id or ANY, row.environment or ANY)
        gone = Membership(user=row.user, team=row.team, environment=row.environment, role=row.role)
        row.delete()
        admin_remains()
        _record(actor, "user.role_taken", gone)


def admins_lock() -> None:
    """Whoever takes an admin away waits for whoever else does: two admins must not remove each other at once."""
    list(Membership.objects.select_for_update(of=("self",)).filter(role=Role.ADMIN).order_by("pk").values_list("pk"))


def admin_remains() -> None:
    """Raises Conflict when nobody could give roles any more."""
    whole = Membership.objects.filter(role=Role.ADMIN, team=None, environment="", user__is_active=True)
    if not whole.filter(user__kind=UserKind.PERSON).exists():
        raise Conflict(
            "last_admin", "This is the last admin of everything; make somebody else admin first, in every team."
        )


def _check_place(user: User, role: Role, team: Team | None, environment: str) -> None:
    if environment not in {"", *Environment}:
        known = ", ".join(Environment)
        raise InvalidInput.at("/environment", "environment_unknown", f"Environments are {known}; leave empty for all.")
    if user.kind == UserKind.SERVICE:
        if role in HUMANS_ONLY:
            raise InvalidInput.at("/role", "humans_only", f"Only a person can be {role}; a service account cannot.")
        if team is None or team.pk != user.owner_team_id:
            raise InvalidInput.at("/team", "not_its_team", "A service account has roles in the team that owns it only.")


def _record(actor: Actor, verb: str, row: Membership) -> None:
    event_record(
        actor=actor,
        verb=verb,
        subject_kind="user",
        subject_id=str(row.user_id),
        subject_label=row.user.username,
        detail={"role": row.role, "team": row.team.slug if row.team else "", "environment": row.environment},
    )
