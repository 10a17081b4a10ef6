"""What every page's frame needs: the rooms, the theme, who is here."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.urls import reverse

# (URL name, word, icon, prefixes of its pages, second key after "g")
ROOMS = (
    ("fleet", "Fleet", "fleet", ("/endpoints/",), "f"),
    ("rollouts:list", "Rollouts", "rollouts", ("/rollouts/",), "r"),
    ("registry:models", "Models", "models", ("/models/",), "m"),
    ("settings:targets", "Settings", "settings", ("/settings/",), "s"),
)
THEMES = frozenset({"light", "dark"})


def frame(request: HttpRequest) -> dict[str, Any]:
    """``frame.rooms`` for the rail, ``frame.theme`` from the cookie ("" follows the system)."""
    rooms = []
    for name, word, icon, prefixes, key in ROOMS:
        url = reverse(name)
        is_here = request.path == url or request.path.startswith(prefixes)
        rooms.append({"url": url, "word": word, "icon": icon, "key": key, "is_here": is_here})
    return {"frame": {"theme": theme_of(request), "rooms": rooms}}


def theme_of(request: HttpRequest) -> str:
    """The chosen theme, empty for the system's."""
    theme = request.COOKIES.get("theme", "")
    return theme if theme in THEMES else ""
