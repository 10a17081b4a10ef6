"""Parts of pages that are the same for everybody who may see them: rendered once per revision, kept by this process.

A frame makes every open page ask for the same fragment at the same moment. The first who asks renders it, the others
wait for that one rendering, whoever comes later is given what is kept. What differs from person to person (what one may
not see or press) must not be in it: such a part is rendered without a request, so that nothing of one can get in, and
the caller checks before it asks that the person may see it. What differs only by rights has the rights in its place:
one rendering for all who may do the same. A form's token is put in for each person at the end (``with_token``).
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Final

from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.utils.crypto import salted_hmac
from django.utils.http import quote_etag

from apps.kernel.clock import now

STEP_SECONDS = 10
LIMIT_BYTES = 32 * 1024 * 1024
WAIT_SECONDS = 10.0
TOKEN: Final = secrets.token_hex(32)
"""Stands where a person's token belongs: as ``csrf_token`` in the context of a shared rendering. Another one in each
process, so nobody can write it into what is rendered."""


def step_of_now(seconds: int = STEP_SECONDS) -> int:
    """For a revision: what says "the last five minutes", or how long ago something was, is another one at each step."""
    return int(now().timestamp()) // seconds


class Rendered:
    """The newest rendering of each place, least recently asked for forgotten first."""

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self._limit = limit_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, tuple[Hashable, str]] = OrderedDict()
        self._flights: dict[tuple[Hashable, Hashable], Future[str]] = {}
        self._size = 0
        self.made = 0

    def get(self, place: Hashable, revision: Hashable, make: Callable[[], str]) -> str:
        """``make()`` of this revision of ``place``, called by one thread at a time. Raises what ``make`` raises."""
        key = place, revision
        with self._lock:
            kept = self._kept.get(place)
            if kept is not None and kept[0] == revision:
                self._kept.move_to_end(place)
                return kept[1]
            others = self._flights.get(key)
            if others is None:
                flight = self._flights[key] = Future()
        if others is not None:
            try:
                return others.result(WAIT_SECONDS)
            except TimeoutError:  # whoever renders it hangs: nobody else has to
                return make()
        try:
            body = make()
        except BaseException as error:
            with self._lock:
                del self._flights[key]
            flight.set_exception(error)
            raise
        with self._lock:
            del self._flights[key]
            self._keep(place, revision, body)
        flight.set_result(body)
        return body

    def _keep(self, place: Hashable, revision: Hashable, body: str) -> None:
        self.made += 1
        before = self._kept.pop(place, None)
        self._size += len(body) - (len(before[1]) if before else 0)
        self._kept[place] = revision, body
        while self._size > self._limit:
            _, (_, oldest) = self._kept.popitem(last=False)
            self._size -= len(oldest)


SHARED = Rendered()
"""This process's."""


def with_token(request: HttpRequest, body: str) -> HttpResponse:
    """``body`` with this person's token in its forms. The token is written differently in each answer, so the ETag is
    made from what it stands for: an unchanged part is not sent again, and the forms in it go on working."""
    if TOKEN not in body:
        return HttpResponse(body)
    response = HttpResponse(body.replace(TOKEN, get_token(request)))
    secret = request.META["CSRF_COOKIE"]
    response["ETag"] = quote_etag(salted_hmac(__name__, secret + body, algorithm="sha256").hexdigest())
    return response
