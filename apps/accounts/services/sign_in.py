"""Signing in with a name and a password: audited, and slowed down for whoever guesses."""

from __future__ import annotations

from datetime import timedelta

from django.contrib.auth import authenticate
from django.db import transaction
from django.http import HttpRequest

from apps.accounts.models import User, UserKind
from apps.audit.selectors import events_count_since
from apps.audit.services.record import event_record
from apps.kernel.actor import Actor
from apps.kernel.clock import now
from apps.kernel.errors import Forbidden

FAILURES = 10
WITHIN = timedelta(minutes=5)


def sign_in_check(*, request: HttpRequest, username: str, password: str, request_id: str = "") -> User:
    """The person who has this name and password; the caller then signs them in, second factor and audit entry included.

    Raises Forbidden ``sign_in_failed``, the same for an unknown name and a wrong password, and
    ``too_many_attempts`` after FAILURES failures of one account WITHIN the last minutes.
    """
    known = User.objects.filter(username=username).first()
    subject = str(known.pk) if known else "unknown"
    failures = events_count_since("sign_in", subject, "user.sign_in_failed", now() - WITHIN)
    # An unknown name is never answered with "too many": that answer would tell which names exist.
    if known and failures >= FAILURES:
        minutes = int(WITHIN.total_seconds() // 60)
        raise Forbidden("too_many_attempts", f"Too many failed attempts; try again in {minutes} minutes.")
    user = authenticate(request, username=username, password=password)
    if isinstance(user, User) and user.kind == UserKind.PERSON:
        return user
    if failures < FAILURES:  # a flood of guesses must not flood the log
        # What was typed is not written down: people type passwords into the name field.
        label = known.username if known else "unknown account"
        _record(Actor("anonymous", "", label, request_id=request_id), "user.sign_in_failed", "sign_in", subject)
    raise Forbidden("sign_in_failed", "Name or password is wrong.")


def _record(actor: Actor, verb: str, subject_kind: str, subject_id: str) -> None:
    with transaction.atomic():
        event_record(
            actor=actor, verb=verb, subject_kind=subject_kind, subject_id=subject_id, subject_label=actor.label
        )
