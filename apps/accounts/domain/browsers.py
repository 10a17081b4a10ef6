"""A browser in words, from what it says of itself: enough to recognise one's own among one's sessions. Pure."""

from __future__ import annotations

import re
from typing import Final

# In this order: Edge and Opera call themselves Chrome too, and Chrome calls itself Safari.
_BROWSERS: Final = (
    (r"Edg(?:e|A|iOS)?/(\d+)", "Edge"),
    (r"OPR/(\d+)", "Opera"),
    (r"(?:Firefox|FxiOS)/(\d+)", "Firefox"),
    (r"(?:HeadlessChrome|Chrome|CriOS)/(\d+)", "Chrome"),
    (r"Version/(\d+).*Safari", "Safari"),
    (r"^curl/(\d+)", "curl"),
    (r"^python-(?:httpx|requests)/(\d+)", "a Python program"),
)
# Phones before what they are built on: Android says Linux, an iPhone says Mac OS X.
_SYSTEMS: Final = (
    (r"iPhone", "iPhone"), (r"iPad", "iPad"), (r"Android", "Android"), (r"Windows", "Windows"),
    (r"Mac OS X|Macintosh", "macOS"), (r"CrOS", "ChromeOS"), (r"Linux|X11", "Linux"),
)  # fmt: skip
LONGEST: Final = 60


def browser_words(user_agent: str) -> str:
    """``Firefox 140 on Windows``; an unknown one as it calls itself, cut; nothing said: ``unknown browser``.

    >>> browser_words("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
    'Firefox 140 on Linux'
    """
    said = user_agent.strip()
    found = next((f"{word} {hit[1]}" for pattern, word in _BROWSERS if (hit := re.search(pattern, said))), "")
    system = next((word for pattern, word in _SYSTEMS if re.search(pattern, said)), "")
    if found and system:
        return f"{found} on {system}"
    if found:
        return found
    return (said if len(said) <= LONGEST else said[: LONGEST - 1] + "…") or "unknown browser"
