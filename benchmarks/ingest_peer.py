"""The peer of bench_ingest.py: the same body through a plain Django REST framework view, under the same server.

``/fields`` checks every number as a DRF serializer does; ``/parsed`` only lets DRF parse and render, and uses the
product's own bucketing, so that what remains is the framework. Both add to the product's buffer, which nobody empties.
"""

from __future__ import annotations

import time
from typing import Any

import harness  # noqa: F401  puts the checkout on the module path
from django.conf import settings

settings.configure(
    SECRET_KEY="only-for-a-measurement",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF="ingest_peer",
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions", "rest_framework"],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    DATA_UPLOAD_MAX_MEMORY_SIZE=None,
    REST_FRAMEWORK={"DEFAULT_AUTHENTICATION_CLASSES": [], "UNAUTHENTICATED_USER": None},
)

import django  # noqa: E402

django.setup()

from django.core.asgi import get_asgi_application  # noqa: E402
from django.http import HttpResponse  # noqa: E402
from django.urls import path  # noqa: E402
from rest_framework import serializers  # noqa: E402
from rest_framework.parsers import JSONParser  # noqa: E402
from rest_framework.renderers import JSONRenderer  # noqa: E402
from rest_framework.request import Request  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.views import APIView  # noqa: E402

from apps.telemetry.domain.cells import Cell, CellKey  # noqa: E402
from apps.telemetry.domain.known import Known  # noqa: E402
from apps.telemetry.domain.observations import parse_observations  # noqa: E402

_cells: dict[CellKey, Cell] = {}


class Columns(serializers.Serializer[Any]):
    endpoint = serializers.CharField(max_length=80)
    variant = serializers.CharField(max_length=63)
    ts = serializers.ListField(child=serializers.FloatField(min_value=0))
    latency_s = serializers.ListField(child=serializers.FloatField(min_value=0))
    status = serializers.ListField(child=serializers.IntegerField(min_value=100, max_value=599))


class _View(APIView):
    parser_classes = (JSONParser,)
    renderer_classes = (JSONRenderer,)

    def take(self, body: Any) -> Response:
        parsed = parse_observations(body, Known(), now=time.time())
        for key, cell in parsed.cells.items():
            known = _cells.setdefault(key, cell)
            if known is not cell:
                known.add(cell)
        return Response({"accepted": parsed.tally.accepted, "rejected": parsed.tally.rejected}, status=202)


class Fields(_View):
    def post(self, request: Request) -> Response:
        checked = Columns(data=request.data)
        checked.is_valid(raise_exception=True)
        return self.take(dict(checked.validated_data))


class Parsed(_View):
    def post(self, request: Request) -> Response:
        return self.take(request.data)


urlpatterns = [
    path("fields", Fields.as_view()),
    path("parsed", Parsed.as_view()),
    path("livez", lambda _: HttpResponse("ok")),
]
application = get_asgi_application()
