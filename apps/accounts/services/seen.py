"""What of the accounts an actor may see: people and service accounts of their teams, and the teams."""

from __future__ import annotations

from django.db.models import Exists, OuterRef, Q, QuerySet

from apps.accounts.models import Membership, Team, User, UserKind
from apps.accounts.selectors import team_get, team_list
from apps.accounts.services.access import scope_q
from apps.kernel.actor import Actor
from apps.kernel.errors import NotFound


def accounts_visible(actor: Actor) -> QuerySet[User]:
    """People and service accounts that ``actor`` may see: whoever has a role in a team of theirs, or everywhere."""
    inside = Membership.objects.filter(scope_q(actor, "member.read", team="team_id"), user=OuterRef("pk"))
    everywhere = Membership.objects.filter(team=None, user=OuterRef("pk"))
    seen = Exists(inside) | Exists(everywhere) | Q(pk=int(actor.id) if actor.kind == "user" else 0)
    owned = scope_q(actor, "member.read", team="owner_team_id")
    newcomers = Q(memberships=None) if "member.write" in actor.actions or "*" in actor.actions else Q(pk__in=[])
    services = Q(kind=UserKind.SERVICE) & owned
    found = User.objects.filter(Q(kind=UserKind.PERSON) & (Q(seen) | newcomers) | services)
    return found.prefetch_related("memberships").distinct()


def account_get(actor: Actor, account_id: str) -> User:
    """A person or service account that ``actor`` may see. Raises NotFound."""
    is_id = account_id.isascii() and account_id.isdigit() and len(account_id) < 19
    found = accounts_visible(actor).filter(pk=account_id).first() if is_id else None
    if found is None:
        raise NotFound("account_unknown", "There is no such account, or you may not see it.")
    return found


def team_seen(actor: Actor, team: str) -> Team:
    """A team that ``actor`` may see, by id or slug. Raises NotFound."""
    found = team_get(team)
    if not team_list().filter(scope_q(actor, "member.read", team="pk"), pk=found.pk).exists():
        raise NotFound("team_unknown", f"There is no team {team}.")
    return found
