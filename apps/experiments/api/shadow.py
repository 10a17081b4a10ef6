"""A version against the one in whose shadow it runs."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.experiments.api.views import TAG
from apps.experiments.services.shadow import shadow_compare
from apps.kernel.rest import (
    ApiView,
    StrictChar,
    StrictDateTime,
    StrictSerializer,
    actor_of,
    iso,
    operation,
    query_of,
)


class ShadowQuery(StrictSerializer):
    first = StrictChar(required=False, max_length=63, help_text="The stable variant, where it is missing.")
    variant = StrictChar(required=False, max_length=63, help_text="The one that gets copies now, where it is missing.")
    segment = StrictChar(required=False, max_length=80, help_text="An input column to break the comparison down by.")
    since = StrictDateTime(required=False)
    until = StrictDateTime(required=False)


class ShadowSchema(serializers.Serializer[Any]):
    object = serializers.CharField()
    endpoint = serializers.CharField()
    first = serializers.CharField(help_text="The variant whose answers callers got.")
    second = serializers.CharField()
    since = serializers.DateTimeField()
    until = serializers.DateTimeField()
    inputs_hash = serializers.CharField()
    result = serializers.DictField(help_text="Agreement, flips, score differences, who is right; per segment.")


class ShadowView(ApiView):
    action_required = "experiment.read"

    @operation(
        "endpoint_shadow",
        "Two versions on the same inputs",
        tag=TAG,
        description="Sampled requests that were answered by the first variant and copied to the other, joined by "
        "request id. Labels, where they came, say who was right: McNemar's test.",
        path={"endpoint_name": "The endpoint's name or id."},
        query=ShadowQuery,
        errors=(409,),
        answers={200: ShadowSchema},
    )
    def get(self, request: Request, endpoint_name: str) -> Response:
        asked = query_of(request, ShadowQuery)
        found = shadow_compare(
            actor=actor_of(request),
            endpoint_id=endpoint_name,
            first=asked.get("first", ""),
            second=asked.get("variant", ""),
            segment=asked.get("segment", ""),
            since=asked.get("since"),
            until=asked.get("until"),
        )
        return Response(
            {
                "object": "shadow",
                "endpoint": found.endpoint,
                "first": found.first,
                "second": found.second,
                "since": iso(found.since),
                "until": iso(found.until),
                "inputs_hash": found.inputs_hash,
                "result": found.result,
            }
        )
