"""The states of a review, what may be decided, and when a review is decided. Pure.

    open --quorum of living approvals--> approved        open --one rejection--> rejected
    open --deadline, on_expiry reject--> rejected        open --deadline, on_expiry hold--> expired
    open --whoever asked--> withdrawn                    open --the world moved on--> voided

Everything but ``open`` is final. Nothing approves by the clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class State(StrEnum):
    OPEN = "open"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    VOIDED = "voided"
    WITHDRAWN = "withdrawn"


class Verdict(StrEnum):
    APPROVE = "approve"
    REJECT = "reject"
    ASK_FOR_MORE = "ask_for_more"
    COMMENT = "comment"


class OnExpiry(StrEnum):
    REJECT = "reject"
    HOLD = "hold"


# Asked for again with the same plan, one of these is the answer; after the others a new review is opened.
STANDING = frozenset({State.OPEN, State.APPROVED, State.REJECTED})
REASON_NEEDED = frozenset({Verdict.REJECT, Verdict.ASK_FOR_MORE, Verdict.COMMENT})


def outcome(living: Iterable[Verdict], quorum: int) -> State:
    """What the living decisions, one per person, make of an open review.

    >>> outcome([Verdict.APPROVE, Verdict.ASK_FOR_MORE], quorum=1)
    <State.APPROVED: 'approved'>
    >>> outcome([Verdict.APPROVE, Verdict.APPROVE, Verdict.REJECT], quorum=2)
    <State.REJECTED: 'rejected'>
    """
    verdicts = list(living)
    if Verdict.REJECT in verdicts:
        return State.REJECTED
    return State.APPROVED if verdicts.count(Verdict.APPROVE) >= quorum else State.OPEN


def at_expiry(on_expiry: OnExpiry) -> State:
    """What the deadline makes of an open review."""
    return State.REJECTED if on_expiry is OnExpiry.REJECT else State.EXPIRED
