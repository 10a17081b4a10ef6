"""What the API says about windows of telemetry."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rest_framework import serializers

from apps.kernel.rest import iso
from apps.kernel.stats.histogram import ExponentialHistogram
from apps.telemetry.domain.window import Window
from apps.telemetry.selectors import Point

QUANTILES = ((0.5, "p50_ms"), (0.95, "p95_ms"), (0.99, "p99_ms"))


class QuantileSchema(serializers.Serializer[Any]):
    value = serializers.FloatField()
    lower = serializers.FloatField()
    upper = serializers.FloatField()


class WindowSchema(serializers.Serializer[Any]):
    requests = serializers.IntegerField()
    good = serializers.IntegerField()
    client_4xx = serializers.IntegerField(help_text="The caller's own mistakes; no error of the model.")
    model_error = serializers.IntegerField()
    timeout = serializers.IntegerField()
    other_5xx = serializers.IntegerField()
    error_rate = serializers.FloatField(allow_null=True, help_text="Of all but client_4xx; null without any.")
    p50_ms = QuantileSchema(allow_null=True)
    p95_ms = QuantileSchema(allow_null=True)
    p99_ms = QuantileSchema(allow_null=True)


class PointSchema(WindowSchema):
    at = serializers.DateTimeField()


class VariantWindowsSchema(serializers.Serializer[Any]):
    variant = serializers.CharField()
    total = WindowSchema()
    points = PointSchema(many=True)


class WindowsSchema(serializers.Serializer[Any]):
    object = serializers.CharField()
    endpoint = serializers.CharField()
    since = serializers.DateTimeField()
    until = serializers.DateTimeField()
    step_seconds = serializers.IntegerField()
    variants = VariantWindowsSchema(many=True)


def window_show(window: Window) -> dict[str, Any]:
    return {
        "requests": window.total,
        "good": window.good,
        "client_4xx": window.client_4xx,
        "model_error": window.model_error,
        "timeout": window.timeout,
        "other_5xx": window.other_5xx,
        "error_rate": window.bad / window.judged if window.judged else None,
        **{name: _quantile(window.latency, q) for q, name in QUANTILES},
    }


def point_show(point: Point) -> dict[str, Any]:
    return {"at": iso(moment(point.at)), **window_show(point.window)}


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _quantile(latency: ExponentialHistogram, q: float) -> dict[str, float] | None:
    found = latency.quantile(q)
    if found is None:
        return None
    return {"value": found.value * 1000, "lower": found.lower * 1000, "upper": found.upper * 1000}
