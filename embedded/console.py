"""What the person at the terminal reads: one line per thing done, with the seconds since the start."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress

Say = Callable[[str], None]


class Console:
    """Writes lines such as `  1.3 s  PostgreSQL is ready`."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def say(self, line: str) -> None:
        # The terminal may be gone (closed window): that must not keep us from stopping what we started.
        with suppress(OSError):
            sys.stdout.write(f"{time.monotonic() - self._started:6.1f} s  {line}\n")
            sys.stdout.flush()


def quiet(_line: str) -> None:
    """A `Say` that keeps silent, for tests and for callers that speak themselves."""
