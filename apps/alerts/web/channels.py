"""One channel: made, tried, changed, its messages; an address is written and never shown."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import cache_control, never_cache
from django.views.decorators.http import conditional_page

from apps.accounts.selectors import team_list
from apps.accounts.services.access import scope_q
from apps.accounts.web_access import actor_of_request, declares
from apps.alerts.domain.addresses import FORMS
from apps.alerts.domain.states import ChannelState, DeliveryState
from apps.alerts.models import Channel
from apps.alerts.selectors import ROUTE, channel_get, notice_list
from apps.alerts.services.channels import channel_create, channel_delete, channel_update
from apps.alerts.services.sending import channel_test, notice_resend
from apps.alerts.web.alerting import channel_row
from apps.alerts.web.said import notice_row
from apps.kernel.errors import Conflict, DomainError

SHOWN: Final = 30


@declares({"GET": ROUTE, "POST": ROUTE})
@never_cache
def channel_new(request: HttpRequest) -> HttpResponse:
    """The form; a POST makes the channel and leads to its page."""
    if request.method != "POST":
        return _form(request, {"kind": "slack"}, {})
    typed: dict[str, Any] = {name: request.POST.get(name, "").strip() for name in ("name", "kind", "team")}
    # A form that is kept over a sign-in leaves out what is called a secret (apps/accounts/web_access.py).
    typed["address"] = request.POST.get("address_secret", "").strip()
    try:
        made, secret = channel_create(
            actor=actor_of_request(request), is_default=request.POST.get("is_default") == "yes", **typed
        )
    except DomainError as error:
        faults = {item.pointer.strip("/"): item.detail for item in error.fields} or {"name": error.detail}
        typed |= {"address": "", "is_default": request.POST.get("is_default") == "yes"}
        return _form(request, typed, faults, status=422)
    return _page(request, made, secret)


@declares({"GET": ROUTE})
def channel(request: HttpRequest, channel_id: str) -> HttpResponse:
    """One channel. Raises NotFound."""
    return _page(request, channel_get(actor_of_request(request), channel_id))


@declares({"GET": ROUTE})
@cache_control(private=True, no_cache=True)
@conditional_page
def log(request: HttpRequest, channel_id: str) -> HttpResponse:
    """Its newest messages: what came of each, and sending one again. Raises NotFound."""
    found = channel_get(actor_of_request(request), channel_id)
    rows = notice_list(found).order_by("-id")
    is_lost = request.GET.get("state") == DeliveryState.GIVEN_UP
    rows = rows.filter(state=DeliveryState.GIVEN_UP) if is_lost else rows
    context = {"channel": found, "rows": [notice_row(row) for row in rows[:SHOWN]], "is_lost": is_lost}
    return render(request, "alerts/_notices.html", context)


@declares({"POST": ROUTE})
def change(request: HttpRequest, channel_id: str) -> HttpResponse:
    """On or off, the default, another address. Raises NotFound."""
    actor = actor_of_request(request)
    asked: dict[str, Any] = {}
    if request.POST.get("state"):
        asked["state"] = request.POST["state"]
    if request.POST.get("is_default") == "yes":
        asked["is_default"] = True
    if "address_secret" in request.POST:
        asked["address"] = request.POST["address_secret"].strip()
    try:
        found = channel_update(actor=actor, channel_id=channel_id, **asked)
    except (Conflict, DomainError) as error:
        messages.error(request, f"Nothing was changed. {error.detail}")
    else:
        off = found.state != ChannelState.ACTIVE
        messages.success(request, f"{found.name} is changed{'; what comes waits until it is on' if off else ''}.")
    return redirect("alerting:channel", channel_id)


@declares({"POST": ROUTE})
def test(request: HttpRequest, channel_id: str) -> HttpResponse:
    """Sends a message that says it is a test. Raises NotFound."""
    try:
        channel_test(actor=actor_of_request(request), channel_id=channel_id)
    except Conflict as error:
        messages.error(request, error.detail)
    else:
        messages.success(request, "A test is on its way; what came of it stands below.")
    return redirect("alerting:channel", channel_id)


@declares({"POST": ROUTE})
def remove(request: HttpRequest, channel_id: str) -> HttpResponse:
    """With its messages. Raises NotFound."""
    try:
        channel_delete(actor=actor_of_request(request), channel_id=channel_id)
    except Conflict as error:
        messages.error(request, error.detail)
        return redirect("alerting:channel", channel_id)
    messages.success(request, "The channel is removed.")
    return redirect("alerting:list")


@declares({"POST": ROUTE})
def resend(request: HttpRequest, channel_id: str, notice_id: str) -> HttpResponse:
    """Sends one message again. Raises NotFound."""
    actor = actor_of_request(request)
    try:
        notice_resend(actor=actor, channel=channel_get(actor, channel_id), notice=notice_id)
    except Conflict as error:
        messages.error(request, error.detail)
    else:
        messages.success(request, "It is sent again.")
    return redirect("alerting:channel", channel_id)


def _page(request: HttpRequest, found: Channel, secret: str = "") -> HttpResponse:
    context = {
        **channel_row(found),
        "secret": secret,
        "is_on": found.state == ChannelState.ACTIVE,
        "routes": list(found.routes.all()),
        "form": next(form for form in FORMS.values() if form.kind == found.kind),
    }
    return render(request, "alerts/channel.html", context)


def _form(request: HttpRequest, typed: dict[str, Any], faults: dict[str, str], status: int = 200) -> HttpResponse:
    teams = list(team_list().filter(scope_q(actor_of_request(request), ROUTE, team="pk")))
    context = {"typed": typed, "faults": faults, "forms": list(FORMS.values()), "teams": teams}
    return render(request, "alerts/channel_form.html", context, status=status)
