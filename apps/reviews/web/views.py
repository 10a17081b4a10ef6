"""The list of what waits, and the page where a person decides. A GET never decides: mails lead to a page."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import urlencode

from apps.accounts.domain.roles import who_can
from apps.accounts.web_access import declares
from apps.kernel.actor import Actor
from apps.kernel.clock import now
from apps.kernel.errors import Conflict, Forbidden, InvalidInput
from apps.reviews.domain.states import State, Verdict
from apps.reviews.models import Review
from apps.reviews.selectors import (
    approvals_of,
    decisions_of,
    refusal,
    review_get,
    review_list,
    review_waiting_for,
)
from apps.reviews.services.decide import review_decide
from apps.reviews.services.open import review_withdraw
from apps.reviews.web.evidence import blocks_of

PAGE = 50
FACETS = (("open", "Open"), ("closed", "Closed"), ("all", "All"))
CLOSED = tuple(state.value for state in State if state is not State.OPEN)
LEVELS = {
    "open": ("attention", "waits for a person"), "approved": ("ok", "approved"), "rejected": ("bad", "rejected"),
    "expired": ("unknown", "expired"), "voided": ("unknown", "voided"), "withdrawn": ("unknown", "withdrawn"),
}  # fmt: skip
SAID = {"approve": "approves", "reject": "rejects", "ask_for_more": "asks for more", "comment": "remarks"}


@declares("review.read")
def reviews(request: HttpRequest) -> HttpResponse:
    """What waits for me first, then the others."""
    actor: Actor = request.actor  # type: ignore[attr-defined]
    facet = request.GET.get("show", "open")
    facet = facet if facet in dict(FACETS) else "open"
    states = {"open": (State.OPEN.value,), "closed": CLOSED, "all": ()}[facet]
    mine = review_waiting_for(actor) if facet == "open" else []
    found = review_list(actor, states=states).exclude(pk__in=[one.pk for one in mine])
    before = request.GET.get("before", "")[:40].replace("\x00", "")
    if before:
        found = found.filter(pk__lt=before)
    others = list(found[: PAGE + 1])
    last = review_list(actor, states=CLOSED).order_by("-closed_at").first()
    context = {
        "facets": FACETS,
        "facet": facet,
        "mine": [_row(one) for one in mine] if not before else [],
        "others": [_row(one) for one in others[:PAGE]],
        "older": urlencode({"show": facet, "before": others[PAGE - 1].pk}) if len(others) > PAGE else "",
        "last_closed": last,
    }
    return render(request, "reviews/list.html", context)


@declares({"GET": "review.read", "POST": "review.read"})
def review(request: HttpRequest, review_id: str) -> HttpResponse:
    """Request, evidence, decision. A POST decides and comes back here; what is refused is said above the form."""
    actor: Actor = request.actor  # type: ignore[attr-defined]
    found = review_get(review_id, actor)
    if request.method != "POST":
        return _page(request, found, actor)
    try:
        done = _act(request, actor, review_id)
    except (Conflict, Forbidden, InvalidInput) as error:
        status = {Conflict: 409, Forbidden: 403, InvalidInput: 422}[type(error)]
        return _page(request, review_get(review_id, actor), actor, fault=error.detail, status=status)
    messages.success(request, f"Recorded. The review is {LEVELS[done.state][1].replace('waits', 'open and waits')}.")
    return HttpResponseRedirect(reverse("reviews:detail", args=[review_id]))


def _act(request: HttpRequest, actor: Actor, review_id: str) -> Review:
    said = request.POST.get("reason", "")
    revision = request.POST.get("expected_revision", "")
    seen = int(revision) if revision.isascii() and revision.isdigit() and len(revision) < 10 else 0
    asked = request.POST.get("verdict", "")
    if asked == "withdraw":
        return review_withdraw(actor=actor, review_id=review_id, reason=said, expected_revision=seen)
    if asked not in set(Verdict):
        raise InvalidInput.at("/verdict", "unknown_verdict", "Choose to approve, reject, ask for more or remark.")
    return review_decide(
        actor=actor,
        review_id=review_id,
        verdict=Verdict(asked),
        reason=said,
        expected_revision=seen,
        plan_hash=request.POST.get("plan_hash", ""),
        evidence_hash=request.POST.get("evidence_hash", ""),
    )


def _page(request: HttpRequest, found: Review, actor: Actor, *, fault: str = "", status: int = 200) -> HttpResponse:
    decisions = decisions_of(found)
    is_open = found.state == State.OPEN
    context = {
        "review": found,
        "level": LEVELS[found.state],
        "evidence": blocks_of(found.evidence),
        "decisions": [
            {"one": one, "said": SAID[one.verdict], "level": _level(one.verdict)} for one in reversed(decisions)
        ],
        "approvals": approvals_of(found),
        "refusal": refusal(actor, found, now()),
        "who_can": [role.value for role in who_can(found.action)],
        "may_withdraw": is_open and actor.kind == found.requested_kind and actor.id == found.requested_id,
        "is_open": is_open,
        "fault": fault,
        "typed": request.POST.get("reason", "")[:2000],
        "typed_for": request.POST.get("verdict", ""),
        "panels": PANELS,
    }
    return render(request, "reviews/review.html", context, status=status)


def _panel(key: str, verdict: str, word: str, ask: str, look: str = "") -> dict[str, Any]:
    return {"key": key, "verdict": verdict, "word": word, "ask": ask, "look": look, "must": verdict != "approve"}


PANELS = (
    _panel("a", "approve", "Approve", "It goes on as the request says, once enough people approve.", "primary"),
    _panel("r", "reject", "Reject", "It does not go on. Say what has to change.", "danger"),
    _panel("m", "ask_for_more", "Ask for more", "It stays where it is. Say what is missing, and how much of it."),
)


def _level(verdict: str) -> str:
    return {"approve": "ok", "reject": "bad", "ask_for_more": "attention"}.get(verdict, "unknown")


def _row(one: Review) -> dict[str, Any]:
    return {"review": one, "level": LEVELS[one.state], "approvals": approvals_of(one)}
