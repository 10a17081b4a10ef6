"""Asking for a review, taking the question back, declaring it void."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import connection, transaction

from apps.accounts.domain.roles import ALL_ACTIONS
from apps.accounts.services.access import access_require
from apps.audit.domain.chain import settled
from apps.kernel.actor import ANY, SYSTEM, Actor
from apps.kernel.canonical import sha256_of
from apps.kernel.clock import now
from apps.kernel.errors import Forbidden, InvalidInput, PolicyRefused
from apps.reviews.domain.states import STANDING, OnExpiry, State
from apps.reviews.models import Review
from apps.reviews.selectors import review_for_subject
from apps.reviews.services.ends import moved_on, review_end, review_record, review_tell

_HASH = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Subject:
    """What a review is about. ``part`` tells several reviews of one subject apart; ``url`` is a path on this site."""

    kind: str
    id: str
    label: str
    part: str = ""
    url: str = ""
    team: str = ""
    environment: str = ""


@dataclass(frozen=True, slots=True)
class Terms:
    """Who decides, until when, and what happens then. ``people``: ids of more people who may not decide (authors)."""

    quorum: int = 1
    action: str = "review.decide"
    four_eyes: bool = True
    people: Collection[str] = ()
    deadline_at: datetime | None = None
    on_expiry: OnExpiry = OnExpiry.HOLD


@dataclass(frozen=True, slots=True)
class Wake:
    """The Celery task, by name, that is rung when the review ends."""

    task: str = ""
    kwargs: Mapping[str, Any] = field(default_factory=dict)


def review_open(
    *,
    actor: Actor,
    subject: Subject,
    title: str,
    request: str,
    plan_hash: str,
    evidence: Mapping[str, Any],
    terms: Terms | None = None,
    wake: Wake | None = None,
) -> Review:
    """The review of this subject and plan: the standing one (open, approved, rejected), or a new one.

    A new plan for the same subject and part voids the open review of the old one. The evidence is frozen as it is now.
    Raises InvalidInput; PolicyRefused when four eyes cannot hold because nobody is known behind the asking key.
    """
    asked = terms or Terms()
    _check(subject, title, plan_hash, asked)
    access_require(actor, "review.request", subject.team or ANY, subject.environment or ANY)
    barred = sorted({*actor.people, *asked.people, *([actor.id] if actor.kind == "user" else [])})
    if asked.four_eyes and actor.kind not in {"user", "system"} and not actor.people:
        raise PolicyRefused(
            "requester_unknown", "Four eyes need to know who is behind this key; give its account an owner."
        )
    with transaction.atomic():
        _lock(subject)
        about = review_for_subject(subject.kind, subject.id, subject_part=subject.part)
        standing = about.filter(plan_hash=plan_hash, state__in=[state.value for state in STANDING]).first()
        if standing is not None:
            return standing
        for old in about.filter(state=State.OPEN):
            review_end(SYSTEM, old, State.VOIDED, "review.voided", "The plan has changed.", {})
        frozen = settled(dict(evidence))
        rung = wake or Wake()
        review = Review.objects.create(
            subject_kind=subject.kind, subject_id=subject.id, subject_part=subject.part, subject_label=subject.label,
            subject_url=subject.url, team=subject.team, environment=subject.environment, title=title, request=request,
            requested_kind=actor.kind, requested_id=actor.id, requested_label=actor.label,
            requested_chain=list(actor.chain), barred=barred, plan_hash=plan_hash, evidence=frozen,
            evidence_hash=sha256_of(frozen), quorum=asked.quorum, action=asked.action, four_eyes=asked.four_eyes,
            deadline_at=asked.deadline_at, on_expiry=asked.on_expiry.value, wake_task=rung.task,
            wake_kwargs=dict(rung.kwargs), opened_at=now(),
        )  # fmt: skip
        review_tell(review)
        detail = {"quorum": asked.quorum, "four_eyes": asked.four_eyes, "barred": barred, "action": asked.action}
        review_record(actor, review, "review.opened", detail)
    return review


def review_void(*, actor: Actor, review_id: str, reason: str) -> Review:
    """Nobody may act on this review any more (a new FAIL, the subject is gone). For services, no door leads here.
    A review that is closed already stays as it is: an approval is bound to its hashes, which the caller checks."""
    with transaction.atomic():
        review = _locked(review_id)
        if review.state != State.OPEN:
            return review
        return review_end(actor, review, State.VOIDED, "review.voided", _reason(reason), {})


def reviews_hold(subject_kind: str, subject_id: str) -> None:
    """Lock a subject's open reviews until the commit, before the caller locks the audit chain by its own entries:
    somebody who decides holds a review first and then wants the chain, so the other order would deadlock."""
    open_ones = review_for_subject(subject_kind, subject_id).filter(state=State.OPEN)
    list(open_ones.select_for_update().values_list("pk", flat=True))


def reviews_void_for(*, actor: Actor, subject_kind: str, subject_id: str, reason: str) -> int:
    """Void every open review of a subject; returns how many."""
    found = list(review_for_subject(subject_kind, subject_id).filter(state=State.OPEN).values_list("pk", flat=True))
    for review_id in found:
        review_void(actor=actor, review_id=review_id, reason=reason)
    return len(found)


def review_withdraw(*, actor: Actor, review_id: str, reason: str, expected_revision: int) -> Review:
    """Take the question back; only whoever asked, by the same account or key, or a person behind that key.

    Raises Forbidden, Conflict (closed, or changed since ``expected_revision``), InvalidInput.
    """
    with transaction.atomic():
        review = _locked(review_id)
        is_asker = actor.kind == review.requested_kind and actor.id == review.requested_id
        links = [str(link).split(" ")[0] for link in review.requested_chain]
        is_behind = actor.kind == "user" and f"user:{actor.id}" in links
        if not (is_asker or is_behind):
            raise Forbidden("not_the_requester", f"Only {review.requested_label} can withdraw this request.")
        if review.state != State.OPEN or review.revision != expected_revision:
            raise moved_on(review)
        return review_end(actor, review, State.WITHDRAWN, "review.withdrawn", _reason(reason), {})


def _check(subject: Subject, title: str, plan_hash: str, terms: Terms) -> None:
    if not _HASH.fullmatch(plan_hash):
        raise InvalidInput.at("/plan_hash", "bad_hash", "plan_hash is sha256: and 64 hexadecimal digits.")
    if not 1 <= len(title) <= 200:
        raise InvalidInput.at("/title", "bad_title", "The title has 1 to 200 characters.")
    if terms.quorum < 1 or terms.quorum > 20:
        raise InvalidInput.at("/quorum", "bad_quorum", "The quorum is 1 to 20 people.")
    if terms.action not in ALL_ACTIONS:
        raise InvalidInput.at("/action", "unknown_action", f"There is no action {terms.action}.")
    if terms.deadline_at is not None and terms.deadline_at <= now():
        raise InvalidInput.at("/deadline_at", "in_the_past", "The deadline is over already.")
    if subject.url and not re.fullmatch(r"/(?!/)[^\s\\]*", subject.url):
        raise InvalidInput.at("/subject/url", "bad_url", "The subject's address is a path on this site.")


def _reason(text: str) -> str:
    said = text.strip()
    if not 1 <= len(said) <= 2000:
        raise InvalidInput.at("/reason", "reason_needed", "Say why, in 1 to 2,000 characters.")
    return said


def _locked(review_id: str) -> Review:
    found = Review.objects.select_for_update().filter(pk=review_id).first()
    if found is None:
        raise InvalidInput.at("/review_id", "review_unknown", f"There is no review {review_id[:40]}.")
    return found


def _lock(subject: Subject) -> None:
    """Two openers of one subject wait for each other, so that the second finds the first one's review."""
    with connection.cursor() as cursor:
        name = f"review\n{subject.kind}\n{subject.id}\n{subject.part}"
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [name])
