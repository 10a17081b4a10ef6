"""The web process: limits, ingestion and the MLflow protocol in front, then WebSockets, then Django."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402
from django.conf import settings  # noqa: E402
from django.urls import path  # noqa: E402

from apps.registry.api.mlflow.asgi import MlflowApp  # noqa: E402
from apps.telemetry.ingest.herald import Herald  # noqa: E402
from apps.telemetry.ingest_asgi import IngestApp  # noqa: E402
from controlplane.https_asgi import HttpsApp  # noqa: E402
from controlplane.limits_asgi import LimitApp  # noqa: E402
from controlplane.live_consumer import LiveConsumer  # noqa: E402
from controlplane.pages_asgi import PagesApp  # noqa: E402

_routed = ProtocolTypeRouter(
    {
        "http": PagesApp(django_application),
        "websocket": AllowedHostsOriginValidator(
            AuthMiddlewareStack(URLRouter([path("live", LiveConsumer.as_asgi())]))
        ),
    }
)

_ingest = IngestApp(
    MlflowApp(_routed),
    token=settings.PILOTHOUSE_INGEST_TOKEN,
    names=settings.PILOTHOUSE_OTLP_NAMES,
    notify=Herald().tell,
)
_limited = LimitApp(_ingest)
application = HttpsApp(_limited) if settings.SESSION_COOKIE_SECURE else _limited
