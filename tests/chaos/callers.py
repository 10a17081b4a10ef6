"""Somebody who calls the endpoint at a steady rate and remembers every answer that was none."""

from __future__ import annotations

import itertools
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import httpx

from demo.data import Flight, replay
from demo.traffic import infer_body

PER_SECOND = 10.0
FLIGHTS = 500
TIMEOUT_SECONDS = 10.0


@dataclass
class Callers:
    """``answered``: (moment, version) of every good answer; ``failed``: (moment, why) of the others. Monotonic time."""

    gateway: str
    flights: Iterator[Flight]
    answered: list[tuple[float, str]] = field(default_factory=list)
    failed: list[tuple[float, str]] = field(default_factory=list)
    _is_over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        url = f"{self.gateway}/serve/late-arrival/v2/models/late-arrival/infer"
        due = time.monotonic()
        with httpx.Client(trust_env=False, timeout=TIMEOUT_SECONDS) as client:
            for number, flight in enumerate(self.flights):
                due = max(due + 1 / PER_SECOND, time.monotonic() - 1.0)
                if self._is_over.wait(max(0.0, due - time.monotonic())):
                    return
                self._call(client, url, infer_body(flight, f"caller-{number}"))

    def _call(self, client: httpx.Client, url: str, body: dict[str, object]) -> None:
        try:
            answer = client.post(url, json=body)
        except httpx.HTTPError as error:
            self.failed.append((time.monotonic(), type(error).__name__))
            return
        if answer.status_code == httpx.codes.OK:
            self.answered.append((time.monotonic(), answer.headers["x-pilothouse-version"]))
        else:
            self.failed.append((time.monotonic(), f"{answer.status_code} {answer.text[:200]}"))

    def stop(self) -> None:
        self._is_over.set()

    def failed_since(self, moment: float) -> list[str]:
        return [why for at, why in self.failed if at >= moment]

    def answered_since(self, moment: float) -> list[str]:
        """The versions that answered."""
        return [version for at, version in self.answered if at >= moment]

    def longest_silence_since(self, moment: float) -> float:
        """Seconds: the longest stretch after ``moment`` in which nobody got an answer."""
        moments = [moment, *(at for at, _ in self.answered if at >= moment), time.monotonic()]
        return max(after - before for before, after in pairwise(moments))


@contextmanager
def steady_callers(gateway: str) -> Iterator[Callers]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of pandas, in the demo's own reading of its data
        flights = itertools.cycle(itertools.islice(replay(), FLIGHTS))
        first = next(flights)
    callers = Callers(gateway, itertools.chain([first], flights))
    thread = threading.Thread(target=callers.run, name="callers")
    thread.start()
    try:
        yield callers
    finally:
        callers.stop()
        thread.join(2 * TIMEOUT_SECONDS)
