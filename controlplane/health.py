"""Is the process alive, can it work, what does it count: for load balancers, orchestrators and Prometheus."""

from __future__ import annotations

import hmac

import redis
from django.conf import settings
from django.db import connection
from django.db.utils import Error as DatabaseFault
from django.http import HttpRequest, HttpResponse, JsonResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from apps.accounts.domain.doors import PUBLIC
from apps.accounts.web_access import declares
from apps.alerts import selectors as alerts
from apps.kernel import selectors as kernel
from apps.kernel.clock import now
from apps.rollouts import selectors as rollouts
from apps.targets import selectors as targets
from apps.telemetry.ingest.exported import ingest_metrics

TIMEOUT_SECONDS = 2


@declares(PUBLIC)
def livez(request: HttpRequest) -> HttpResponse:
    """This process answers; says nothing about what is below it."""
    return HttpResponse("ok\n", content_type="text/plain")


@declares(PUBLIC)
def readyz(request: HttpRequest) -> HttpResponse:
    """Every server this process needs; 503 when the database is gone. Redis gone is degraded, not down."""
    checks = {"database": _database(), "redis": _redis()}
    status = 200 if checks["database"] == "ok" else 503
    return JsonResponse({"ready": status == 200, "checks": checks}, status=status)


@declares(PUBLIC)
def metrics(request: HttpRequest) -> HttpResponse:
    """The control plane's own gauges in Prometheus text; behind PILOTHOUSE_METRICS_TOKEN where that is set."""
    expected = settings.PILOTHOUSE_METRICS_TOKEN
    given = request.headers.get("Authorization", "")
    if expected and not hmac.compare_digest(given.encode(), f"Bearer {expected}".encode()):
        return HttpResponse("A bearer token is needed.\n", status=401, content_type="text/plain")
    registry = CollectorRegistry()
    lag, waiting = kernel.outbox_lag()
    Gauge("pilothouse_outbox_entries", "Messages not yet delivered.", registry=registry).set(waiting)
    Gauge("pilothouse_outbox_oldest_seconds", "Age of the oldest undelivered message.", registry=registry).set(lag)
    phases = Gauge("pilothouse_rollouts", "Rollouts by phase.", ["phase"], registry=registry)
    for phase, count in rollouts.rollout_counts().items():
        phases.labels(phase).set(count)
    weights = Gauge(
        "pilothouse_endpoint_weight_ratio", "Wanted share of traffic.", ["endpoint", "variant"], registry=registry
    )
    for endpoint in targets.endpoint_list():
        plan = targets.plan_of(endpoint)
        for key, weight in (plan.route.weights_bp if plan else {}).items():
            weights.labels(endpoint.name, key).set(weight / 10_000)
    ages = Gauge("pilothouse_look_age_seconds", "Since the last look whether all is well.", ["look"], registry=registry)
    for name, seen in alerts.watches_seen().items():
        ages.labels(name).set(max(0.0, (now() - seen.at).total_seconds()))
    return HttpResponse(generate_latest(registry) + ingest_metrics().encode(), content_type=CONTENT_TYPE_LATEST)


def _database() -> str:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseFault as error:
        return f"unreachable ({type(error).__name__})"
    return "ok"


def _redis() -> str:
    client = redis.Redis.from_url(
        settings.PILOTHOUSE_REDIS_URL, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS
    )
    try:
        client.ping()
    except redis.RedisError as error:
        return f"unreachable ({type(error).__name__})"
    finally:
        client.close()
    return "ok"
