"""What may X do? Reads memberships and limits as they are now and asks domain/explain.py."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from apps.accounts.domain.explain import Explanation, Limits, explain
from apps.accounts.domain.roles import ALL_ACTIONS, Environment
from apps.accounts.models import ApiToken, CiTrust, Membership, User
from apps.accounts.services.access import scopes_from
from apps.kernel.errors import InvalidInput, NotFound


@dataclass(frozen=True, slots=True)
class Principal:
    """An account, and the limits of the key or trust that was asked about."""

    account: User
    label: str
    limits: Limits | None = None


def principal_find(text: str, among: Iterable[User]) -> Principal:
    """An account (name or id), a key (``plh_<id>``) or a CI trust (``ct_…``) of ``among``. Raises NotFound."""
    accounts = {user.pk: user for user in among}
    if text.startswith("plh_"):
        token = ApiToken.objects.filter(pk=text.removeprefix("plh_").partition("_")[0]).first()
        if token is not None and token.user_id in accounts:
            limits = Limits(frozenset(token.roles), frozenset(token.teams), frozenset(token.environments))
            return Principal(accounts[token.user_id], f"key {token.label}", limits)
    if text.startswith("ct_"):
        trust = CiTrust.objects.filter(pk=text, revoked_at=None).first()
        if trust is not None and trust.account_id in accounts:
            limits = Limits(frozenset(trust.roles), frozenset(), frozenset(trust.environments))
            return Principal(accounts[trust.account_id], f"CI job {trust.label}", limits)
    for user in accounts.values():
        if text in {user.get_username(), str(user.pk)}:
            return Principal(user, user.get_username())
    raise NotFound("principal_unknown", f"There is no account, key or trust {text}, or you may not see it.")


def access_explain(
    principal: Principal, action: str, team: str | None = None, environment: str | None = None
) -> Explanation:
    """Allow or deny with every rule on the way. ``team`` is an id. Raises InvalidInput for an unknown action."""
    if action not in ALL_ACTIONS:
        raise InvalidInput.at("?action", "unknown_action", f"There is no action {action}; there are {_known()}.")
    user = principal.account
    rows = Membership.objects.filter(user=user).values_list("role", "team_id", "environment")
    return explain(scopes_from(rows), action, team, environment, limits=principal.limits, is_active=user.is_active)


def access_table(
    principal: Principal, actions: Iterable[str], team: str | None = None
) -> dict[tuple[str, Environment], bool]:
    """Allow or deny for every action and environment in one team (id; None: in some team). One query."""
    user = principal.account
    held = scopes_from(Membership.objects.filter(user=user).values_list("role", "team_id", "environment"))
    return {
        (action, place): explain(
            held, action, team, place, limits=principal.limits, is_active=user.is_active
        ).is_allowed
        for action in actions
        for place in Environment
    }


def _known() -> str:
    return ", ".join(sorted(ALL_ACTIONS))
