"""``python -m controlplane.healthcheck WHAT``: exit code 0 when well, 1 with one sentence when not.

WHAT is a URL that must answer 200, ``pid:FILE`` whose process must live, or ``outbox`` whose messages must be
young.
"""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

TIMEOUT_SECONDS = 4
OLDEST_SECONDS = 60


def check(what: str) -> str:
    """An empty text when well, else what is wrong."""
    if what == "outbox":
        return _outbox()
    if what.startswith("pid:"):
        return _process(Path(what.removeprefix("pid:")))
    try:
        with urllib.request.urlopen(what, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310  the operator names the URL
            return "" if answer.status == 200 else f"{what} answers {answer.status}"
    except (urllib.error.URLError, OSError) as error:
        return f"{what}: {error}"


def _process(file: Path) -> str:
    try:
        os.kill(int(file.read_text(encoding="ascii")), 0)
    except (OSError, ValueError) as error:
        return f"no live process by {file}: {error}"
    return ""


def _outbox() -> str:
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")
    django.setup()
    from apps.kernel.selectors import outbox_lag

    lag, waiting = outbox_lag()
    return f"{waiting} messages wait, the oldest for {lag:.0f} s" if lag > OLDEST_SECONDS else ""


if __name__ == "__main__":
    fault = check(sys.argv[1])
    if fault:
        sys.exit(fault)
