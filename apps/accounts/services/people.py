"""Accounts: made with a password (first run) or a one-time link, switched off and on. Never a default password."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from apps.accounts.domain.roles import Role
from apps.accounts.models import InviteToken, Membership, User
from apps.accounts.services.access import access_require, actor_of
from apps.accounts.services.memberships import admin_remains, admins_lock
from apps.accounts.services.sessions import sessions_end_all
from apps.audit.services.record import event_record
from apps.kernel.actor import ANY, Actor
from apps.kernel.clock import now
from apps.kernel.errors import Conflict, FieldError, InvalidInput, NotFound

INVITE_VALID = timedelta(days=3)


def account_create(*, actor: Actor, username: str, password: str, roles: frozenset[Role]) -> User:
    """A person with ``roles`` everywhere. Raises InvalidInput (name, password) and Conflict (name taken)."""
    user = User(username=User.normalize_username(username.strip()))
    _check_name(user)
    _check_password(password, user)
    user.set_password(password)
    with transaction.atomic():
        _save_new(user)
        Membership.objects.bulk_create([Membership(user=user, role=role) for role in sorted(roles)])
        _record(actor, "user.created", user, {"roles": sorted(roles)})
    return user


def person_create(*, actor: Actor, username: str) -> tuple[User, str]:
    """A person without roles and the one-time token of the link by which they choose a password.

    Raises Forbidden, InvalidInput, Conflict. Roles come afterwards (``membership_give``), each checked where it holds.
    """
    access_require(actor, "member.write")
    user = User(username=User.normalize_username(username.strip()))
    _check_name(user)
    user.set_unusable_password()
    with transaction.atomic():
        _save_new(user)
        _record(actor, "user.created", user, {"roles": []})
        token = _invite(actor, user)
    return user, token


def person_invite_again(*, actor: Actor, user: User) -> str:
    """A fresh one-time link to choose a (new) password; older ones die. It is a way to take an account over, so it
    needs the right everywhere that the person has one."""
    _require_all_of(actor, user)
    with transaction.atomic():
        return _invite(actor, user)


def invite_find(token: str) -> InviteToken:
    """For the page that shows the form. Raises NotFound for a wrong, spent or old link."""
    row = _valid_invites(token).select_related("user").first()
    if row is None or not row.user.is_active:
        raise NotFound("invite_invalid", "This link is spent or too old; ask an admin for a fresh one.")
    return row


def invite_accept(*, token: str, password: str, request_id: str = "") -> User:
    """Spend the link on a password; every session of the account ends. Raises NotFound, InvalidInput."""
    with transaction.atomic():
        # The row lock makes two clicks wait for each other; the second then finds the link spent.
        row = _valid_invites(token).select_for_update(of=("self",)).select_related("user").first()
        if row is None or not row.user.is_active:
            raise NotFound("invite_invalid", "This link is spent or too old; ask an admin for a fresh one.")
        user = row.user
        _check_password(password, user)
        user.set_password(password)
        user.save(update_fields=["password"])
        row.used_at = now()
        row.save(update_fields=["used_at"])
        sessions_end_all(user)
        _record(actor_of(user, request_id), "user.invite_used", user, {})
    return user


def person_deactivate(*, actor: Actor, user: User) -> User:
    """Nothing of the account opens anything any more: sessions end, keys are refused. Raises Conflict (last admin)."""
    _require_all_of(actor, user)
    with transaction.atomic():
        admins_lock()
        if user.is_active:
            user.is_active = False
            user.save(update_fields=["is_active"])
            admin_remains()
            sessions_end_all(user)
            _record(actor, "user.deactivated", user, {})
    return user


def person_activate(*, actor: Actor, user: User) -> User:
    """Switch an account on again, with the roles that it had."""
    _require_all_of(actor, user)
    with transaction.atomic():
        if not user.is_active:
            user.is_active = True
            user.save(update_fields=["is_active"])
            _record(actor, "user.activated", user, {})
    return user


def _require_all_of(actor: Actor, user: User) -> None:
    """``member.write`` wherever the person has a role; everywhere for whoever has none or has one everywhere."""
    places: set[tuple[str | None, str]] = set(
        Membership.objects.filter(user=user).values_list("team_id", "environment")
    )
    for team, environment in places or {(user.owner_team_id, "")}:
        access_require(actor, "member.write", team or ANY, environment or ANY)


def _invite(actor: Actor, user: User) -> str:
    token, moment = secrets.token_urlsafe(32), now()
    InviteToken.objects.filter(user=user, used_at=None).delete()
    InviteToken.objects.create(user=user, token_hash=_hash(token), created_at=moment, expires_at=moment + INVITE_VALID)
    _record(actor, "user.invited", user, {})
    return token


def _valid_invites(token: str) -> QuerySet[InviteToken]:
    return InviteToken.objects.filter(token_hash=_hash(token), used_at=None, expires_at__gt=now())


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _save_new(user: User) -> None:
    try:
        with transaction.atomic():
            user.save(force_insert=True)
    except IntegrityError as error:
        raise Conflict("username_taken", f"There is an account named {user.username} already.") from error


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


def _record(actor: Actor, verb: str, user: User, detail: dict[str, object]) -> None:
    event_record(
        actor=actor,
        verb=verb,
        subject_kind="user",
        subject_id=str(user.pk),
        subject_label=user.username,
        detail=detail,
    )
