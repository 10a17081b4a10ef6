"""The peer of bench_events.py: the same exposures through a plain Django REST framework view, under the same server.

``/rows`` is what one writes first: a serializer with ``many=True`` whose ``save()`` inserts row by row, in one
transaction. ``/bulk`` uses ``bulk_create``, which leaves known units alone. Neither asks who calls, places a unit in an
arm, hashes its name, keeps the earliest time or remembers which sums are stale.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar

import harness  # noqa: F401  puts the checkout on the module path
from django.conf import settings
from psycopg.conninfo import conninfo_to_dict

_where = conninfo_to_dict(os.environ["DATABASE_URL"])
settings.configure(
    SECRET_KEY="only-for-a-measurement",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF="events_peer",
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "rest_framework"],
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql", "NAME": _where.get("dbname"), "USER": _where.get("user", ""),
            "PASSWORD": _where.get("password", ""), "HOST": _where.get("host", ""), "PORT": _where.get("port", ""),
            "CONN_MAX_AGE": None,
        }
    },
    DATA_UPLOAD_MAX_MEMORY_SIZE=None,
    USE_TZ=True,
    REST_FRAMEWORK={"DEFAULT_AUTHENTICATION_CLASSES": [], "UNAUTHENTICATED_USER": None},
)  # fmt: skip

import django  # noqa: E402

django.setup()

from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import models, transaction  # noqa: E402
from django.http import HttpResponse  # noqa: E402
from django.urls import path  # noqa: E402
from rest_framework import serializers  # noqa: E402
from rest_framework.parsers import JSONParser  # noqa: E402
from rest_framework.renderers import JSONRenderer  # noqa: E402
from rest_framework.request import Request  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.views import APIView  # noqa: E402


class PlainExposure(models.Model):
    """TABLE of bench_events.py makes it, with the same unique constraint as the product's."""

    experiment = models.CharField(max_length=40)
    unit = models.CharField(max_length=200)
    arm = models.CharField(max_length=20)
    at = models.DateTimeField()

    class Meta:
        app_label = "events_peer"
        db_table = "plain_exposure"
        managed = False

    def __str__(self) -> str:
        return self.unit


class Item(serializers.ModelSerializer[PlainExposure]):
    class Meta:
        model = PlainExposure
        fields: ClassVar = ["experiment", "unit", "arm", "at"]


class _View(APIView):
    parser_classes = (JSONParser,)
    renderer_classes = (JSONRenderer,)

    def post(self, request: Request) -> Response:
        items = Item(data=request.data, many=True)
        items.is_valid(raise_exception=True)
        with transaction.atomic():
            self.store(items)
        return Response({"accepted": len(items.validated_data)})

    def store(self, items: Any) -> None:
        items.save()


class Bulk(_View):
    def store(self, items: Any) -> None:
        PlainExposure.objects.bulk_create([PlainExposure(**one) for one in items.validated_data], ignore_conflicts=True)


urlpatterns = [
    path("livez", lambda _: HttpResponse("ok")),
    path("rows", _View.as_view()),
    path("bulk", Bulk.as_view()),
]
application = get_wsgi_application()
