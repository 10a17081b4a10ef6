"""What every page's frame needs: the rooms that this person may enter, what waits for them, the theme."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django.urls import reverse

from apps.accounts.services.access import access_allows, actor_of
from apps.kernel.actor import Actor
from apps.reviews.models import Review
from apps.reviews.selectors import review_waiting_for


@dataclass(frozen=True, slots=True)
class Room:
    """One entry of the rail. ``prefixes`` are the addresses of its pages, ``key`` the second key after "g"."""

    name: str
    word: str
    icon: str
    prefixes: tuple[str, ...]
    key: str
    needs: str


ROOMS = (
    Room("fleet", "Fleet", "fleet", ("/endpoints/",), "f", "fleet.read"),
    Room("rollouts:list", "Rollouts", "rollouts", ("/rollouts/",), "r", "rollout.read"),
    Room("registry:models", "Models", "models", ("/models/",), "m", "model.read"),
    Room("experiments:list", "Experiments", "experiments", ("/experiments/",), "e", "experiment.read"),
    Room("reviews:list", "Reviews", "reviews", ("/reviews/",), "v", "review.read"),
    Room("incidents:list", "Alerts", "alerts", ("/alerts/",), "l", "alert.read"),
    Room("audit:log", "Audit", "audit", ("/audit/",), "a", "audit.read"),
    Room(
        "settings:targets", "Settings", "settings",
        ("/settings/", "/people/", "/teams/", "/trusts/", "/access/"), "s", "target.read",
    ),
)  # fmt: skip
# The tabs of Settings: (URL name, word, prefix of its pages, what one needs to see it).
SETTINGS = (
    ("settings:targets", "Targets", "/settings/targets/", "target.read"),
    ("settings:freezes", "Freeze windows", "/settings/freezes/", "endpoint.read"),
    ("accounts:people", "People", "/people/", "member.read"),
    ("accounts:teams", "Teams", "/teams/", "member.read"),
    ("accounts:trusts", "CI trusts", "/trusts/", "member.read"),
    ("alerting:list", "Alerting", "/settings/alerting/", "alert.route"),
    ("alerts:list", "Webhooks", "/settings/webhooks/", "webhook.write"),
    ("accounts:explain", "What may X do?", "/access/", "member.read"),
)
THEMES = frozenset({"light", "dark"})


def frame(request: HttpRequest) -> dict[str, Any]:
    """``frame.rooms`` for the rail, ``frame.tabs`` for Settings, ``frame.theme`` from the cookie ("": the system's).

    Rooms and tabs are asked for only where a template draws them: a fragment must not pay for the frame around it.
    """
    rooms: Callable[[], list[dict[str, Any]]] = cache(lambda: _rooms(request))
    return {"frame": {"theme": theme_of(request), "rooms": rooms, "tabs": lambda: _tabs(request)}}


def theme_of(request: HttpRequest) -> str:
    """The chosen theme, empty for the system's."""
    theme = request.COOKIES.get("theme", "")
    return theme if theme in THEMES else ""


def waiting_for(request: HttpRequest) -> list[Review]:
    """The open reviews that this person may decide and has not; asked once a request, for the rail and the fleet."""
    found: list[Review] | None = vars(request).get("reviews_waiting")
    if found is None:
        found = vars(request)["reviews_waiting"] = review_waiting_for(actor_here(request))
    return found


def actor_here(request: HttpRequest) -> Actor:
    """The actor that the page's door has found; on a page without a door (an error) whoever is signed in."""
    found: Actor | None = getattr(request, "actor", None)
    return found if found is not None else actor_of(getattr(request, "user", AnonymousUser()))


def _rooms(request: HttpRequest) -> list[dict[str, Any]]:
    actor, found = actor_here(request), []
    for room in ROOMS:
        url = reverse(room.name)
        is_here = request.path == url or request.path.startswith(room.prefixes)
        if is_here or access_allows(actor, room.needs):
            count = len(waiting_for(request)) if room.name == "reviews:list" else 0
            drawn = {"url": url, "word": room.word, "icon": room.icon, "key": room.key}
            found.append({**drawn, "is_here": is_here, "count": count, "is_counted": room.name == "reviews:list"})
    return found


def _tabs(request: HttpRequest) -> list[dict[str, Any]]:
    actor = actor_here(request)
    return [
        {"url": reverse(name), "word": word, "is_here": request.path.startswith(prefix)}
        for name, word, prefix, needs in SETTINGS
        if access_allows(actor, needs) or request.path.startswith(prefix)
    ]
