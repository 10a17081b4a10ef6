"""The first run: a one-time link creates the first account. There is no default password anywhere.

The first person gets the roles engineer, operator and admin: on a first run there is only one person, who has to
connect a target, register a model and roll it out. Give the roles to several people, and take them from the first,
as soon as there are several; four-eyes rules count people, not roles.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from django.db import transaction
from django.db.models import QuerySet

from apps.accounts.domain.roles import Role
from apps.accounts.models import Membership, SetupToken, User
from apps.accounts.services.people import account_create
from apps.kernel.actor import Actor
from apps.kernel.clock import now
from apps.kernel.errors import Conflict, NotFound

FIRST_ROLES = frozenset({Role.ENGINEER, Role.OPERATOR, Role.ADMIN})
VALID_FOR = timedelta(days=7)


def is_set_up() -> bool:
    """Whether there is an account at all."""
    return User.objects.exists()


def roles_to_split(user: User) -> bool:
    """Whether ``user`` both ships and administers everything: right for a first day, wrong for production."""
    held = set(Membership.objects.filter(user=user, team=None, environment="").values_list("role", flat=True))
    return {Role.ENGINEER, Role.ADMIN} <= held


def setup_token_make() -> str:
    """A fresh one-time token, the only valid one from now on. Raises Conflict when an account exists."""
    if is_set_up():
        raise Conflict("already_set_up", "There is an account already; sign in, or ask an admin for one.")
    token = secrets.token_urlsafe(32)
    with transaction.atomic():
        SetupToken.objects.filter(used_at=None).delete()
        SetupToken.objects.create(token_hash=_hash(token), created_at=now())
    return token


def setup_token_is_valid(token: str) -> bool:
    """For the page that shows the form; ``first_person_create`` asks again."""
    return not is_set_up() and _valid(token).exists()


def first_person_create(*, token: str, username: str, password: str, request_id: str = "") -> User:
    """Spend the token on the first account. Raises NotFound (wrong, spent or old token), InvalidInput, Conflict."""
    with transaction.atomic():
        # The row lock makes two clicks wait for each other; the second then finds the token spent.
        row = _valid(token).select_for_update().first()
        if row is None or is_set_up():
            raise NotFound(
                "setup_token_invalid",
                "This link is spent or too old; the next start of Pilothouse prints a fresh one, while nobody has one.",
            )
        actor = Actor(kind="setup", id="first-run", label="first run", request_id=request_id)
        user = account_create(actor=actor, username=username, password=password, roles=FIRST_ROLES)
        row.used_at = now()
        row.save(update_fields=["used_at"])
    return user


def _valid(token: str) -> QuerySet[SetupToken]:
    return SetupToken.objects.filter(token_hash=_hash(token), used_at=None, created_at__gt=now() - VALID_FOR)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
