"""Where alerts go and where they come from: channels, routes and receivers of the teams that one administers."""

from __future__ import annotations

from typing import Any, Final

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache

from apps.accounts.domain.roles import Environment
from apps.accounts.selectors import team_list
from apps.accounts.services.access import scope_q
from apps.accounts.web_access import actor_of_request, declares
from apps.alerts.domain.addresses import FORMS
from apps.alerts.domain.alertmanager import PAGES, REPEAT_SECONDS
from apps.alerts.domain.incidents import Severity
from apps.alerts.domain.states import ChannelKind, ChannelState
from apps.alerts.models import Channel, Receiver
from apps.alerts.selectors import ROUTE, channel_list, notices_given_up, receiver_list, route_list
from apps.alerts.services.channels import route_create, route_delete
from apps.alerts.services.receivers import receiver_create, receiver_delete, receiver_rotate, receiver_update
from apps.kernel.errors import Conflict, DomainError, InvalidInput, NotFound

SOURCES: Final = ("slo", "rollouts", "telemetry", "targets", "experiments", "drift", "alertmanager")


@declares({"GET": ROUTE})
def alerting(request: HttpRequest) -> HttpResponse:
    """Channels, routes, receivers."""
    return _page(request)


@declares({"POST": ROUTE})
def route_add(request: HttpRequest) -> HttpResponse:
    """Some alerts go to some channels."""
    actor = actor_of_request(request)
    chosen = request.POST.getlist("channels")
    teams = set(channel_list(actor).filter(pk__in=chosen).values_list("team__slug", flat=True))
    try:
        if len(teams) > 1:
            raise InvalidInput.at("/channels", "several_teams", "A route leads to channels of one team.")
        route_create(
            actor=actor, channels=chosen, team=next(iter(teams), ""),
            **{name: request.POST.get(name, "").strip() for name in ("severity", "environment", "source")},
        )  # fmt: skip
    except (InvalidInput, NotFound) as error:
        return _page(request, fault=("route", error.detail), status=422)
    messages.success(request, "The route holds for what changes from now on.")
    return redirect("alerting:list")


@declares({"POST": ROUTE})
def route_remove(request: HttpRequest, route_id: str) -> HttpResponse:
    """Raises NotFound."""
    route_delete(actor=actor_of_request(request), route_id=route_id)
    messages.success(request, "The route is removed; what fits no other goes to the default.")
    return redirect("alerting:list")


@declares({"POST": ROUTE})
@never_cache
def receiver_add(request: HttpRequest) -> HttpResponse:
    """Lets an Alertmanager report; its token is shown in this answer and nowhere else."""
    values = [value for value in request.POST.get("page_values", "").split(",") if value.strip()]
    try:
        made = receiver_create(
            actor=actor_of_request(request), name=request.POST.get("name", "").strip(),
            team=request.POST.get("team", ""), is_house_wide=request.POST.get("team") == "*",
            page_values=values or PAGES, repeat_seconds=_repeat(request),
        )  # fmt: skip
    except DomainError as error:
        return _page(request, fault=("receiver", error.detail), status=409 if isinstance(error, Conflict) else 422)
    return _page(request, made=made)


@declares({"POST": ROUTE})
def receiver_change(request: HttpRequest, receiver_id: str) -> HttpResponse:
    """How often it repeats itself. Raises NotFound."""
    try:
        row = receiver_update(actor=actor_of_request(request), receiver_id=receiver_id, repeat_seconds=_repeat(request))
    except InvalidInput as error:
        return _page(request, fault=("receivers", error.detail), status=422)
    messages.success(request, f"What {row.name} does not say again for a quarter longer is taken as over.")
    return redirect("alerting:list")


def _repeat(request: HttpRequest) -> int:
    """Minutes as typed, in seconds; nothing typed is Alertmanager's default. Raises InvalidInput."""
    typed = request.POST.get("repeat_minutes", "").strip()
    if not typed:
        return REPEAT_SECONDS
    if not typed.isascii() or not typed.isdecimal() or len(typed) > 6:
        raise InvalidInput.at(
            "/repeat_minutes", "bad_repeat", "Say after how many minutes it repeats itself, such as 240."
        )
    return 60 * int(typed)


@declares({"POST": ROUTE})
@never_cache
def receiver_renew(request: HttpRequest, receiver_id: str) -> HttpResponse:
    """A new token, shown once. Raises NotFound."""
    return _page(request, made=receiver_rotate(actor=actor_of_request(request), receiver_id=receiver_id))


@declares({"POST": ROUTE})
def receiver_remove(request: HttpRequest, receiver_id: str) -> HttpResponse:
    """Raises NotFound."""
    receiver_delete(actor=actor_of_request(request), receiver_id=receiver_id)
    messages.success(request, "Its token opens nothing any more; its alerts stay until somebody resolves them.")
    return redirect("alerting:list")


def channel_row(channel: Channel, given_up: int = 0) -> dict[str, Any]:
    """What pages show of a channel."""
    level = ("ok", "on")
    if channel.state != ChannelState.ACTIVE:
        level = ("unknown", "paused")
    elif channel.failing_since:
        level = ("bad", "failing")
    return {"channel": channel, "level": level, "kind": FORMS[ChannelKind(channel.kind)].word, "given_up": given_up}


def _page(
    request: HttpRequest,
    fault: tuple[str, str] = ("", ""),
    made: tuple[Receiver, str] | None = None,
    status: int = 200,
) -> HttpResponse:
    actor = actor_of_request(request)
    found = list(channel_list(actor).order_by("team__slug", "name"))
    lost = notices_given_up(found)
    context = {
        "channels": [channel_row(one, lost.get(one.pk, 0)) for one in found],
        "routes": list(route_list(actor).order_by("team__slug", "id")),
        "receivers": list(receiver_list(actor).order_by("name")),
        "teams": list(team_list().filter(scope_q(actor, ROUTE, team="pk"))),
        "severities": [one.value for one in Severity],
        "environments": [one.value for one in Environment],
        "sources": SOURCES,
        "fault": {"where": fault[0], "detail": fault[1]},
        "typed": request.POST,
        "made": made,
        "base_url": settings.PILOTHOUSE_BASE_URL,
    }
    return render(request, "alerts/alerting.html", context, status=status)
