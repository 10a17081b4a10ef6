"""The ingest door as a process of its own: the same limits and formats, no pages, no API.

    uvicorn controlplane.ingest_asgi:application --port 8010

``/metrics`` is this process's own counters, ``/livez`` says that it answers.
"""

from __future__ import annotations

import hmac
import os
import sys

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")

import django

django.setup()

from django.conf import settings  # noqa: E402

from apps.telemetry.ingest.exported import ingest_metrics  # noqa: E402
from apps.telemetry.ingest.herald import Herald  # noqa: E402
from apps.telemetry.ingest.http import Answer, Receive, Scope, Send, respond  # noqa: E402
from apps.telemetry.ingest_asgi import IngestApp  # noqa: E402
from controlplane.limits_asgi import LimitApp  # noqa: E402

# The thread that writes must give way to answers at once: with the usual 5 ms every hundredth answer waits that long.
sys.setswitchinterval(0.0005)

PLAIN = b"text/plain; version=0.0.4"


async def outside(scope: Scope, receive: Receive, send: Send) -> None:
    """What is not ingestion."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1000})
    elif scope["path"] == "/livez":
        await respond(send, Answer(b"ok\n", content_type=b"text/plain"))
    elif scope["path"] == "/metrics":
        expected = settings.PILOTHOUSE_METRICS_TOKEN
        given = dict(scope["headers"]).get(b"authorization", b"")
        if expected and not hmac.compare_digest(given, f"Bearer {expected}".encode()):
            await respond(send, Answer(b"A bearer token is needed.\n", 401, b"text/plain"))
        else:
            await respond(send, Answer(ingest_metrics().encode(), content_type=PLAIN))
    else:
        await respond(send, Answer({"code": "not_found", "detail": "This process takes telemetry only."}, 404))


application = LimitApp(
    IngestApp(
        outside, token=settings.PILOTHOUSE_INGEST_TOKEN, names=settings.PILOTHOUSE_OTLP_NAMES, notify=Herald().tell
    )
)
