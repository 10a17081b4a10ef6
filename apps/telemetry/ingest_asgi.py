"""Ingestion: a small ASGI app in front of Django (which would cost ten times more per request).

What waits for a commit and what does not (contracts, section 5):
* ``slots`` of our own serving processes, ``inferences`` and ``labels`` are answered after their commit;
* ``observations``, OTLP ``metrics`` and CloudEvents ``events`` are answered once they stand in a bounded buffer in
  memory, written once a second; ``?wait=commit`` makes observations wait. What finds no room is dropped and counted.

The event loop never waits for the database.
"""

from __future__ import annotations

import time
from typing import Any

import structlog
from django.db.utils import Error as DatabaseFault

from apps.kernel.errors import InvalidInput
from apps.telemetry.domain.otlp import Names
from apps.telemetry.ingest import exported
from apps.telemetry.ingest.handlers import Intake
from apps.telemetry.ingest.http import (
    MAX_BODY,
    MAX_UNPACKED,
    Answer,
    Asgi,
    Bodies,
    Receive,
    Refusal,
    Scope,
    Send,
    authorised,
    respond,
)
from apps.telemetry.ingest.teller import FillTeller
from apps.telemetry.ingest.writer import Notify

__all__ = ["MAX_BODY", "PREFIX", "IngestApp"]

PREFIX = "/ingest/v1/"
BULK = 8 * MAX_BODY
LIMITS = {"observations": BULK, "metrics": BULK, "events": BULK, "labels": BULK}
FORMATS = ("slots", "observations", "metrics", "events", "inferences", "labels")

log = structlog.get_logger(__name__)


class IngestApp:
    """Answers ``/ingest/v1/*`` itself and hands everything else to ``inner``."""

    def __init__(self, inner: Asgi, *, token: str, notify: Notify | None = None, names: Names | None = None) -> None:
        self._inner = inner
        self._expected = f"Bearer {token}".encode()
        self.intake = Intake(names=names, notify=notify)
        self._bodies = Bodies()
        self._teller = FillTeller(self.intake.fill)
        exported.register(self.intake)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self._inner(scope, receive, send)
            return
        began = time.perf_counter()
        kind = scope["path"].removeprefix(PREFIX)
        form = kind if kind in FORMATS else "other"
        try:
            answer = await self._answered(kind, scope, receive)
        except Refusal as refused:
            answer = Answer({"code": refused.code, "detail": refused.detail}, refused.status)
        except InvalidInput as error:
            answer = Answer({"code": error.code, "detail": error.detail, "field": _field(error)}, 400)
        except DatabaseFault:
            detail = "The database did not take the batch; send it again."
            answer = Answer({"code": "unavailable", "detail": detail}, 503)
        self.intake.ledger.body(form, answer.status, time.perf_counter() - began)
        await respond(send, answer)

    async def _answered(self, kind: str, scope: Scope, receive: Receive) -> Answer:
        headers = dict(scope["headers"])
        authorised(headers, self._expected)
        if kind not in FORMATS:
            raise Refusal(404, "not_found", f"There is {PREFIX} followed by {', '.join(FORMATS)}.")
        if scope["method"] != "POST":
            raise Refusal(405, "method_not_allowed", "Use POST.")
        self.intake.buffer.start()
        raw = await self._bodies.read(receive, headers, limit=LIMITS.get(kind, MAX_BODY), unpacked_limit=MAX_UNPACKED)
        try:
            return await self._handled(kind, raw, headers, scope)
        finally:
            self._bodies.release(len(raw))

    async def _handled(self, kind: str, raw: bytes, headers: dict[bytes, bytes], scope: Scope) -> Answer:
        query = scope.get("query_string", b"")
        if kind == "slots":
            return await self.intake.slots(raw)
        if kind == "observations":
            return await self.intake.observations(raw, headers, query, (scope.get("client") or ("",))[0])
        if kind == "metrics":
            return await self.intake.metrics(raw, headers)
        if kind == "events":
            return await self.intake.events(raw, headers, query)
        return await (self.intake.inferences(raw) if kind == "inferences" else self.intake.labels(raw, headers, query))

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        """Start with the names known, end with the buffer written. Only a server tells how full its door is."""
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self.intake.buffer.start()
                self._teller.start()
                await send({"type": "lifespan.startup.complete"})
            else:
                self._teller.stop()
                self.intake.buffer.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return


def _field(error: InvalidInput) -> Any:
    return error.fields[0].pointer if error.fields else ""
