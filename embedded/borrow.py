"""The variables of the product that runs in a home, for a chore that somebody types beside it.

They are read from the web process itself: whatever `make up` was started with holds for the chore as well.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from pathlib import Path

import psutil

from embedded.errors import LaunchError
from embedded.settings import ROOT
from embedded.state import MARKER
from embedded.supervise import leftover

OURS = ("PILOTHOUSE_", "DATABASE_URL", "REDIS_URL", "DJANGO_")
PLACES = ("DATABASE_URL", "DATABASE_URL_FILE")


def borrow_environment(own: MutableMapping[str, str]) -> None:
    """Fill ``own`` from the running product where it names no database; what it names already stays.

    Raises LaunchError: nothing runs there, or its processes belong to somebody else.
    """
    if any(name in own for name in PLACES):
        return
    home = Path(own.get("PILOTHOUSE_HOME", ROOT / "var")).absolute()
    for name, value in environment_of(home).items():
        if name.startswith(OURS):
            own.setdefault(name, value)


def environment_of(home: Path) -> Mapping[str, str]:
    """The environment of the web process that runs in ``home``. Raises LaunchError."""
    web = leftover(home, "web") if (home / MARKER).exists() else None
    if web is None:
        raise LaunchError(
            f"Pilothouse does not run in {home}: start it with `make up` and repeat this, or set PILOTHOUSE_HOME to "
            "the folder where it runs; on a server set DATABASE_URL and the other variables of its processes."
        )
    try:
        return web.environ()
    except psutil.AccessDenied as error:
        raise LaunchError(
            f"Pilothouse runs in {home} as the user {web.username()}: repeat this as that user."
        ) from error
    except psutil.NoSuchProcess as error:
        raise LaunchError(f"Pilothouse in {home} was just stopped: start it with `make up` and repeat this.") from error
