"""Who is acting, and whether they may. Every door asks here; default deny."""

from __future__ import annotations

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser

from apps.accounts.domain.roles import ALL_ACTIONS, Role, actions_of, who_can
from apps.accounts.models import ApiToken, Membership, User
from apps.kernel.actor import Actor
from apps.kernel.errors import Forbidden


def roles_of(user: User) -> frozenset[Role]:
    """The roles of a person; nobody who is switched off has one."""
    if not user.is_active:
        return frozenset()
    return frozenset(Role(role) for role in Membership.objects.filter(user=user).values_list("role", flat=True))


def actor_of(user: AbstractBaseUser | AnonymousUser, request_id: str = "") -> Actor:
    """The actor that a signed-in person is; an anonymous one may do nothing. One query."""
    if not isinstance(user, User):
        return Actor(kind="anonymous", id="", label="nobody", request_id=request_id)
    return Actor(
        kind="user",
        id=str(user.pk),
        label=user.get_username(),
        actions=actions_of(roles_of(user)),
        request_id=request_id,
    )


def actor_of_token(token: ApiToken, request_id: str = "") -> Actor:
    """The actor that a key is: what its scopes allow, as far as its maker still may."""
    scopes = frozenset(Role(role) for role in token.roles)
    return Actor(
        kind="key",
        id=token.id,
        label=f"{token.label} (key of {token.user.get_username()})",
        actions=actions_of(scopes & roles_of(token.user)),
        request_id=request_id,
    )


def access_allows(actor: Actor, action: str) -> bool:
    """Whether ``actor`` may do ``action``. Raises ValueError for an action that no table knows."""
    if action not in ALL_ACTIONS:
        raise ValueError(f"undeclared action: {action}")
    return "*" in actor.actions or action in actor.actions


def access_require(actor: Actor, action: str) -> None:
    """Raises Forbidden, with a sentence that names the roles that can."""
    if access_allows(actor, action):
        return
    roles = [role.value for role in who_can(action)]
    named = roles[0] if len(roles) == 1 else f"{', '.join(roles[:-1])} or {roles[-1]}"
    raise Forbidden(
        "forbidden",
        f"{actor.label} may not do this ({action}). It needs the role {named}; an admin can give it.",
        extra={"action": action, "roles": roles},
    )
