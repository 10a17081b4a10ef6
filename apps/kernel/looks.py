"""Looks at the database that are the same for everybody, and what one request has looked up already.

A frame makes every open page ask at the same moment, and before each can be told "nothing new" somebody has to look.
Whoever asks while a look is under way shares the next one: it begins after they asked, so nobody is given an answer
that was old when they came. What belongs to one person (who they are, what they may) is looked up for each.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any, TypeVar

from django.http import HttpRequest

WAIT_SECONDS = 10.0
T = TypeVar("T")


class _Line:
    """Of one key: who looks holds ``gate``; ``next`` is the look that has not begun yet."""

    __slots__ = ("gate", "next")

    def __init__(self) -> None:
        self.gate = threading.Lock()
        self.next: Future[Any] | None = None


class Looks:
    """At most one look per key at a time, and one that waits, which everybody shares who comes meanwhile."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: dict[Hashable, _Line] = {}
        self.made = 0

    def get(self, key: Hashable, look: Callable[[], T]) -> T:
        """What a ``look`` found that began after this call. Raises what it raises."""
        with self._lock:
            line = self._lines.setdefault(key, _Line())
            shared = line.next
            if shared is None:
                own = line.next = Future()
        if shared is None:
            return self._look(key, line, own, look)
        try:
            found: T = shared.result(WAIT_SECONDS)
        except TimeoutError:  # whoever looks hangs: nobody else has to
            return look()
        return found

    def _look(self, key: Hashable, line: _Line, own: Future[Any], look: Callable[[], T]) -> T:
        with line.gate:
            with self._lock:
                line.next = None  # who comes from here on wants a later one
                self.made += 1
            try:
                found = look()
            except BaseException as error:
                own.set_exception(error)
                raise
            finally:
                with self._lock:
                    if line.next is None:
                        self._lines.pop(key, None)
        own.set_result(found)
        return found


LOOKS = Looks()
"""This process's."""


def once(request: HttpRequest, key: Hashable, look: Callable[[], T]) -> T:
    """``look()``, once for a request: for a page and for the parts that are drawn with it."""
    kept: dict[Hashable, Any] = vars(request).setdefault("looked_up", {})
    if key not in kept:
        kept[key] = look()
    found: T = kept[key]
    return found
