"""Accounts and their roles."""

from __future__ import annotations

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from apps.accounts.domain.roles import Role
from apps.accounts.models import Membership, User
from apps.audit.services.record import event_record
from apps.kernel.actor import Actor
from apps.kernel.errors import Conflict, FieldError, InvalidInput


def account_create(*, actor: Actor, username: str, password: str, roles: frozenset[Role]) -> User:
    """A person with ``roles``. Raises InvalidInput (name, password) and Conflict (name taken)."""
    user = User(username=User.normalize_username(username.strip()))
    _check_name(user)
    _check_password(password, user)
    user.set_password(password)
    with transaction.atomic():
        try:
            with transaction.atomic():
                user.save(force_insert=True)
        except IntegrityError as error:
            raise Conflict("username_taken", f"There is an account named {user.username} already.") from error
        Membership.objects.bulk_create([Membership(user=user, role=role) for role in sorted(roles)])
        event_record(
            actor=actor,
            verb="user.created",
            subject_kind="user",
            subject_id=str(user.pk),
            subject_label=user.username,
            detail={"roles": sorted(roles)},
        )
    return user


def _check_name(user: User) -> None:
    try:
        user.clean_fields(exclude={"password"})
    except ValidationError as error:
        messages = error.message_dict.get("username", error.messages)
        raise InvalidInput.at("/username", "bad_username", " ".join(messages)) from error


def _check_password(password: str, user: User) -> None:
    try:
        validate_password(password, user)
    except ValidationError as error:
        fields = tuple(FieldError("/password", "weak_password", message) for message in error.messages)
        raise InvalidInput("weak_password", " ".join(error.messages), fields=fields) from error
