"""Webhooks: the list, one of them, and the form that makes or changes one. The secret is shown once."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache

from apps.accounts.domain.roles import Environment
from apps.accounts.selectors import team_list
from apps.accounts.services.access import scope_q
from apps.accounts.web_access import actor_of_request, declares
from apps.alerts.domain.states import DeliveryState, SubscriptionState
from apps.alerts.domain.words import families, sentence_of, summary_of
from apps.alerts.models import Delivery, Subscription
from apps.alerts.selectors import ACTION, deliveries_count, deliveries_newest, subscription_get, subscription_list
from apps.alerts.services.subscriptions import (
    subscription_create,
    subscription_delete,
    subscription_rotate,
    subscription_update,
)
from apps.kernel.clock import now
from apps.kernel.errors import DomainError

TEXTS: Final = ("name", "url", "team")
LISTS: Final = ("events", "environments")
STATES: Final = {
    SubscriptionState.ACTIVE: ("ok", "on"),
    SubscriptionState.PAUSED: ("unknown", "paused"),
    SubscriptionState.DISABLED: ("bad", "switched off"),
}


@declares({"GET": ACTION})
def webhooks(request: HttpRequest) -> HttpResponse:
    """Those of the teams that one administers, the failing ones first."""
    found = list(subscription_list(actor_of_request(request)).order_by("name"))
    counts, newest = deliveries_count(found), deliveries_newest(found)
    rows = [_row(hook, counts.get(hook.pk, {}), newest.get(hook.pk)) for hook in found]
    rows.sort(key=lambda row: row["rank"])
    return render(request, "alerts/webhooks.html", {"rows": rows})


@declares({"GET": ACTION, "POST": ACTION})
@never_cache
def webhook_new(request: HttpRequest) -> HttpResponse:
    """The form; a POST makes the webhook and shows its secret, in this answer and nowhere else."""
    if request.method != "POST":
        return _form(request, {"events": ["rollout.*"]}, {})
    typed = _typed(request)
    try:
        hook, secret = subscription_create(actor=actor_of_request(request), **typed)
    except DomainError as error:
        return _form(request, typed, _faults(error), status=422)
    return page_of(request, hook, secret=secret)


@declares({"GET": ACTION})
def webhook(request: HttpRequest, webhook_id: str) -> HttpResponse:
    """One webhook and its messages. Raises NotFound."""
    return page_of(request, subscription_get(actor_of_request(request), webhook_id))


@declares({"GET": ACTION, "POST": ACTION})
def webhook_edit(request: HttpRequest, webhook_id: str) -> HttpResponse:
    """Name, address, events, environments. Raises NotFound."""
    actor = actor_of_request(request)
    hook = subscription_get(actor, webhook_id)
    if request.method != "POST":
        return _form(request, {name: getattr(hook, name) for name in ("name", "url", *LISTS)}, {}, hook)
    typed = {name: value for name, value in _typed(request).items() if name != "team"}
    try:
        hook = subscription_update(actor=actor, subscription_id=webhook_id, **typed)
    except DomainError as error:
        return _form(request, typed, _faults(error), hook, status=422)
    messages.success(request, f"{hook.name} is changed; messages that wait go to the new address.")
    return redirect("alerts:webhook", hook.pk)


@declares({"POST": ACTION})
def webhook_switch(request: HttpRequest, webhook_id: str) -> HttpResponse:
    """On, or paused: what happens meanwhile is not told later. Raises NotFound, InvalidInput."""
    hook = subscription_update(
        actor=actor_of_request(request), subscription_id=webhook_id, state=request.POST.get("state", "")
    )
    is_on = hook.state == SubscriptionState.ACTIVE
    said = "is on; what waits is sent now." if is_on else "is paused; what happens meanwhile is not told later."
    messages.success(request, f"{hook.name} {said}")
    return redirect("alerts:webhook", hook.pk)


@declares({"POST": ACTION})
@never_cache
def webhook_rotate(request: HttpRequest, webhook_id: str) -> HttpResponse:
    """A new secret, shown once; the old one signs too for another day. Raises NotFound."""
    return page_of(request, *subscription_rotate(actor=actor_of_request(request), subscription_id=webhook_id))


@declares({"POST": ACTION})
def webhook_delete(request: HttpRequest, webhook_id: str) -> HttpResponse:
    """With its messages. Raises NotFound."""
    actor = actor_of_request(request)
    name = subscription_get(actor, webhook_id).name
    subscription_delete(actor=actor, subscription_id=webhook_id)
    messages.success(request, f"{name} is removed; nothing is sent there any more.")
    return redirect("alerts:list")


def page_of(request: HttpRequest, hook: Subscription, secret: str = "") -> HttpResponse:
    """The page of one webhook, with its new secret where it has just been made."""
    counts = deliveries_count([hook]).get(hook.pk, {})
    context = {
        "hook": hook,
        "host": urlsplit(hook.url).netloc,
        "level": STATES[SubscriptionState(hook.state)],
        "is_on": hook.state == SubscriptionState.ACTIVE,
        "asked": [_asked(hook, family) for family in families() if _asked(hook, family)],
        "given_up": counts.get(DeliveryState.GIVEN_UP, 0),
        "waiting": counts.get(DeliveryState.WAITING, 0),
        "secret": secret,
        "overlap_until": hook.previous_until if hook.previous_until and hook.previous_until > now() else None,
    }
    return render(request, "alerts/webhook.html", context)


def _asked(hook: Subscription, family: Any) -> str:
    if family.every in hook.events:
        return f"{family.word}: everything"
    chosen = [words for name, words in family.events if name in hook.events]
    return f"{family.word}: {'; '.join(chosen)}" if chosen else ""


def _row(hook: Subscription, counts: dict[str, int], newest: Delivery | None) -> dict[str, Any]:
    given_up = counts.get(DeliveryState.GIVEN_UP, 0)
    level = STATES[SubscriptionState(hook.state)]
    if hook.state == SubscriptionState.ACTIVE and hook.failing_since:
        level = ("attention", "failing")
    return {
        "hook": hook,
        "host": urlsplit(hook.url).netloc,
        "level": level,
        "summary": summary_of(hook.events),
        "given_up": given_up,
        "newest": newest,
        "newest_words": sentence_of(newest.event) if newest else "",
        "rank": ("bad", "attention", "ok", "unknown").index(level[0]),
    }


def _typed(request: HttpRequest) -> dict[str, Any]:
    texts: dict[str, Any] = {name: request.POST.get(name, "").strip() for name in TEXTS}
    return {**texts, **{name: request.POST.getlist(name) for name in LISTS}}


def _faults(error: DomainError) -> dict[str, str]:
    """By field; what belongs to none stands at the name, which is what two webhooks cannot share."""
    return {item.pointer.strip("/"): item.detail for item in error.fields} or {"name": error.detail}


def _form(
    request: HttpRequest,
    typed: dict[str, Any],
    faults: dict[str, str],
    hook: Subscription | None = None,
    status: int = 200,
) -> HttpResponse:
    chosen = set(typed.get("events", ()))
    teams = team_list().filter(scope_q(actor_of_request(request), ACTION, team="pk"))
    context = {
        "hook": hook,
        "typed": typed,
        "faults": faults,
        "families": [{"family": one, "is_open": any(name in chosen for name, _ in one.events)} for one in families()],
        "chosen": chosen,
        "environments": [place.value for place in Environment],
        "teams": [] if hook else list(teams),
    }
    return render(request, "alerts/webhook_form.html", context, status=status)
