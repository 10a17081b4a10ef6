"""Where a person is signed in, and ending it."""

from __future__ import annotations

from allauth.usersessions.models import UserSession
from django.db import transaction

from apps.accounts.models import User
from apps.audit.services.record import event_record
from apps.kernel.actor import Actor
from apps.kernel.errors import NotFound


def sessions_of(user: User) -> list[UserSession]:
    """The sessions of ``user`` that still open something, newest first; those that ended meanwhile are forgotten."""
    found: list[UserSession] = UserSession.objects.purge_and_list(user)
    return sorted(found, key=lambda session: session.created_at, reverse=True)


def session_end(*, actor: Actor, user: User, session_id: int) -> None:
    """End one of ``user``'s sessions; its pages are signed out at their next request. Raises NotFound."""
    with transaction.atomic():
        session = UserSession.objects.filter(user=user, pk=session_id).first()
        if session is None:
            raise NotFound("session_unknown", "There is no such session; it may have ended already.")
        session.end()
        _record(actor, user, 1)


def sessions_end_others(*, actor: Actor, user: User, session_key: str | None) -> int:
    """End every session but the one with ``session_key``; returns how many."""
    with transaction.atomic():
        others = UserSession.objects.filter(user=user).exclude(session_key=session_key or "")
        count = _end(list(others))
        if count:
            _record(actor, user, count)
    return count


def sessions_end_all(user: User) -> int:
    """End every session of ``user``, in the caller's transaction; the caller records why."""
    return _end(list(UserSession.objects.filter(user=user)))


def _end(sessions: list[UserSession]) -> int:
    for session in sessions:
        session.end()
    return len(sessions)


def _record(actor: Actor, user: User, count: int) -> None:
    event_record(
        actor=actor,
        verb="user.sessions_ended",
        subject_kind="user",
        subject_id=str(user.pk),
        subject_label=user.username,
        detail={"sessions": count},
    )
