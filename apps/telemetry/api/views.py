"""Windows of an endpoint: counts and latency percentiles per variant over any range."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.kernel.clock import now
from apps.kernel.errors import InvalidInput
from apps.kernel.rest import (
    ApiView,
    StrictDateTime,
    StrictInteger,
    StrictSerializer,
    actor_of,
    iso,
    operation,
    query_of,
)
from apps.targets.selectors import endpoint_get
from apps.telemetry.api.shapes import WindowsSchema, moment, point_show, window_show
from apps.telemetry.domain.levels import CHART_ROWS, chart_step, level_of
from apps.telemetry.domain.window import WindowRequest
from apps.telemetry.selectors import series, windows

SLOT_SECONDS = 10
MAX_POINTS = CHART_ROWS
MAX_WINDOWS = 10 * CHART_ROWS
DEFAULT_RANGE = timedelta(hours=1)


class WindowsQuery(StrictSerializer):
    since = StrictDateTime(required=False, help_text="An hour before until, where it is missing.")
    until = StrictDateTime(required=False, help_text="Now, where it is missing.")
    step_seconds = StrictInteger(min_value=SLOT_SECONDS, max_value=86_400, default=60, help_text="A multiple of 10.")

    def validate_step_seconds(self, value: int) -> int:
        if value % SLOT_SECONDS:
            raise serializers.ValidationError("A multiple of 10: telemetry comes in slots of 10 seconds.", "bad_step")
        return value


class WindowsView(ApiView):
    action_required = "endpoint.read"

    @operation(
        "endpoint_windows",
        "Requests, errors and latency percentiles per variant",
        tag="endpoints",
        description="Requests that were weighted, mirrored or probes; forced ones are left out. A percentile has the "
        "bounds that surely hold it, and is null where nothing was timed; a step without data has no point.",
        path={"endpoint_name": "The endpoint's name or id."},
        query=WindowsQuery,
        answers={200: WindowsSchema},
    )
    def get(self, request: Request, endpoint_name: str) -> Response:
        since, until, step = _range(query_of(request, WindowsQuery))
        endpoint = endpoint_get(endpoint_name, actor_of(request))
        found = series(endpoint.name, since=since, until=until, step_seconds=step)
        keys = sorted({*found, *(variant["key"] for variant in endpoint.desired.get("variants", ()))})
        whole = windows([WindowRequest(endpoint.name, key, since=since, until=until) for key in keys])
        variants = [
            {
                "variant": key,
                "total": window_show(window),
                "points": [point_show(point) for point in found.get(key, ())],
            }
            for key, window in zip(keys, whole, strict=True)
        ]
        return Response(
            {
                "object": "windows",
                "endpoint": endpoint.name,
                "since": iso(moment(since)),
                "until": iso(moment(until)),
                "step_seconds": step,
                "variants": variants,
            }
        )


def _range(asked: dict[str, Any]) -> tuple[int, int, int]:
    """(since, until, step) in Unix seconds, since rounded down to a step. Raises InvalidInput."""
    step: int = asked["step_seconds"]
    until = int((asked.get("until") or now()).timestamp())
    since = int(asked["since"].timestamp()) if "since" in asked else until - int(DEFAULT_RANGE.total_seconds())
    if since < 0 or since >= until:
        raise InvalidInput.at("?since", "bad_range", "since must lie after 1970 and before until.")
    if (until - since) / step > MAX_POINTS:
        raise InvalidInput.at(
            "?step_seconds", "too_many_points", f"That would be more than {MAX_POINTS} points; take a longer step."
        )
    level = level_of(step)
    if (until - since) / level > MAX_WINDOWS:
        raise InvalidInput.at(
            "?step_seconds",
            "too_many_windows",
            f"Steps of {step} s are made of windows of {level} s: too many. Take {chart_step(since, until)}.",
        )
    return since // step * step, until, step
