"""What every page's frame needs: the rooms, the theme, who is here."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.urls import reverse

ROOMS = (("fleet", "Fleet", "fleet", ("/endpoints/",)), ("rollouts:list", "Rollouts", "rollouts", ("/rollouts/",)),
         ("registry:models", "Models", "models", ("/models/",)))  # fmt: skip
THEMES = frozenset({"light", "dark"})


def frame(request: HttpRequest) -> dict[str, Any]:
    """``frame.rooms`` for the rail, ``frame.theme`` from the cookie ("" follows the system)."""
    theme = request.COOKIES.get("theme", "")
    rooms = []
    for name, word, icon, prefixes in ROOMS:
        url = reverse(name)
        is_here = request.path == url or request.path.startswith(prefixes)
        rooms.append({"url": url, "word": word, "icon": icon, "is_here": is_here})
    return {"frame": {"theme": theme if theme in THEMES else "", "rooms": rooms}}
