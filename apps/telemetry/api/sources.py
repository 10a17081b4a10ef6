"""Where an endpoint's telemetry comes from, how its payloads are kept, and labels for it."""

from __future__ import annotations

import base64
import binascii
from typing import Any, ClassVar

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.kernel.clock import now
from apps.kernel.errors import InvalidInput
from apps.kernel.rest import (
    ApiView,
    DryRunQuery,
    PageQuery,
    StrictBoolean,
    StrictChar,
    StrictInteger,
    StrictObject,
    StrictSerializer,
    actor_of,
    body_of,
    operation,
    page_of,
    page_schema,
    query_of,
)
from apps.targets.selectors import endpoint_get
from apps.telemetry.api.source_shapes import (
    InferenceFileSchema,
    InferencePolicySchema,
    LabelsSchema,
    PullSourceSchema,
    PullSourcesSchema,
    SendersSchema,
    file_show,
    policy_show,
    pull_show,
    sender_show,
)
from apps.telemetry.domain.redaction import Redaction
from apps.telemetry.selectors.sources import inference_file_list, ingest_source_list, pull_source_list
from apps.telemetry.services.labels import labels_upload
from apps.telemetry.services.policies import policy_of, policy_set
from apps.telemetry.services.pull_sources import CHECKS, pull_source_put, pull_source_remove

TAG = "telemetry"
ENDPOINT = {"endpoint_name": "The endpoint's name or id."}
KIND = {**ENDPOINT, "kind": f"One of {', '.join(CHECKS)}; an endpoint has at most one of each."}


class PullSourceBody(StrictSerializer):
    config = StrictObject(
        help_text="prometheus: url, dialect (pilothouse, istio, custom), endpoint, matchers, variants, histograms, "
        "names of metrics and labels. cloudwatch: region, endpoint, variants (production variant to ours)."
    )
    token = StrictChar(
        max_length=4000, required=False, allow_blank=True,
        help_text="A bearer token, or key id:secret for AWS; never shown again. Left out: as it was.",
    )  # fmt: skip
    interval_seconds = StrictInteger(min_value=10, max_value=3600, default=30)
    is_enabled = StrictBoolean(default=True)
    expected_revision = StrictInteger(
        min_value=0, required=False, help_text="The revision that you saw, 0 for none; 409 when it has moved on."
    )


class InferencePolicyBody(StrictSerializer):
    retention_days = StrictInteger(min_value=1, max_value=3650, default=90)
    default = serializers.ChoiceField(
        choices=[one.value for one in Redaction], default="keep", help_text="For features that redaction does not name."
    )
    redaction = StrictObject(default=dict, help_text='Feature to "keep", "hash" or "drop".')
    expected_revision = StrictInteger(min_value=0, required=False)


class LabelsBody(StrictSerializer):
    labels = serializers.ListField(
        child=StrictObject(), required=False, max_length=5000,
        help_text="Objects with request_id, value and, if known, at (Unix seconds or RFC 3339).",
    )  # fmt: skip
    csv = StrictChar(max_length=1_000_000, required=False, help_text="A CSV with columns request_id, value and at.")
    parquet = StrictChar(
        max_length=1_000_000, required=False, help_text="A Parquet file with these columns, in base64."
    )


class SendersView(ApiView):
    action_required = "endpoint.read"

    @operation(
        "telemetry_sources", "Who sends telemetry of an endpoint, and how far their clocks are off", tag=TAG,
        path=ENDPOINT, answers={200: SendersSchema},
        description="One row per source, format and variant. skew_seconds is its newest time stamp minus our clock; "
        "resolution says whether its latencies were exact or came in coarser buckets.",
    )  # fmt: skip
    def get(self, request: Request, endpoint_name: str) -> Response:
        endpoint = endpoint_get(endpoint_name, actor_of(request))
        items = [sender_show(one) for one in ingest_source_list(endpoint.name)]
        return Response({"object": "telemetry_sources", "endpoint": endpoint.name, "items": items})


class PullSourcesView(ApiView):
    action_required = "endpoint.read"

    @operation(
        "pull_sources", "Metric stores that are asked for an endpoint's slots", tag=TAG, path=ENDPOINT,
        answers={200: PullSourcesSchema},
        description="verdict: error with its cause, no_data with the age of the newest sample, pending before the "
        "first answer, else pass. skipped names variants that are not taken: unknown, or reporting by themselves.",
    )  # fmt: skip
    def get(self, request: Request, endpoint_name: str) -> Response:
        endpoint = endpoint_get(endpoint_name, actor_of(request))
        at = now()
        items = [pull_show(one, at) for one in pull_source_list(endpoint.name)]
        return Response({"object": "pull_sources", "endpoint": endpoint.name, "items": items})


class PullSourceView(ApiView):
    action_required = "endpoint.write"

    @operation(
        "pull_source_put", "Have an endpoint's metrics pulled", tag=TAG, path=KIND, body=PullSourceBody,
        answers={200: PullSourceSchema}, errors=(409,),
    )  # fmt: skip
    def put(self, request: Request, endpoint_name: str, kind: str) -> Response:
        asked = body_of(request, PullSourceBody)
        asked["revision"] = asked.pop("expected_revision", None)
        source = pull_source_put(actor=actor_of(request), endpoint_id=endpoint_name, kind=kind, **asked)
        return Response(pull_show(source, now()))

    @operation(
        "pull_source_remove", "Stop pulling; what was written stays", tag=TAG, path=KIND, answers={204: None},
        description="There being none is fine.",
    )  # fmt: skip
    def delete(self, request: Request, endpoint_name: str, kind: str) -> Response:
        pull_source_remove(actor=actor_of(request), endpoint_id=endpoint_name, kind=kind)
        return Response(status=204)


class PolicyView(ApiView):
    action_required: ClassVar = {"GET": "endpoint.read", "PUT": "endpoint.write"}

    @operation(
        "inference_policy", "How payloads are kept", tag=TAG, path=ENDPOINT, answers={200: InferencePolicySchema}
    )
    def get(self, request: Request, endpoint_name: str) -> Response:
        return Response(policy_show(policy_of(endpoint_get(endpoint_name, actor_of(request)).name)))

    @operation(
        "inference_policy_put", "Set for how long payloads are kept, and which features are hashed or dropped", tag=TAG,
        path=ENDPOINT, body=InferencePolicyBody, answers={200: InferencePolicySchema}, errors=(409,),
        description="Holds for what arrives from now on, before anything is stored. Hashes are keyed and keep equal "
        "values equal.",
    )  # fmt: skip
    def put(self, request: Request, endpoint_name: str) -> Response:
        asked = body_of(request, InferencePolicyBody)
        asked["revision"] = asked.pop("expected_revision", None)
        return Response(policy_show(policy_set(actor=actor_of(request), endpoint_id=endpoint_name, **asked)))


class FilesView(ApiView):
    action_required = "endpoint.read"

    @operation(
        "inference_file_list", "Parquet files of the inference log", tag=TAG, path=ENDPOINT, query=PageQuery,
        answers={200: page_schema("InferenceFile", InferenceFileSchema)},
    )  # fmt: skip
    def get(self, request: Request, endpoint_name: str) -> Response:
        endpoint = endpoint_get(endpoint_name, actor_of(request))
        found = inference_file_list(endpoint.name)
        return Response(page_of(found, key="id", show=file_show, **query_of(request, PageQuery)))


class LabelsView(ApiView):
    action_required = "label.write"

    @operation(
        "labels_upload", "Say how requests turned out", tag=TAG, path=ENDPOINT, query=DryRunQuery, body=LabelsBody,
        answers={200: LabelsSchema},
        description="Give one of labels, csv and parquet. The last word on a request wins. Rows that cannot be taken "
        "are named and the rest is stored; with dry_run nothing is. Larger files go to /ingest/v1/labels.",
    )  # fmt: skip
    def post(self, request: Request, endpoint_name: str) -> Response:
        form, raw = _given(body_of(request, LabelsBody))
        is_dry_run = query_of(request, DryRunQuery)["dry_run"]
        found = labels_upload(
            actor=actor_of(request), endpoint_id=endpoint_name, form=form, raw=raw, is_dry_run=is_dry_run
        )
        return Response({"object": "labels", **found.to_json()}, headers={"Dry-Run": "true"} if is_dry_run else {})


def _given(body: dict[str, Any]) -> tuple[str, Any]:
    """(format, rows or bytes). Raises InvalidInput unless exactly one is given."""
    if len(body) != 1:
        raise InvalidInput.at("", "one_of", "Give exactly one of labels, csv and parquet.")
    if "labels" in body:
        return "json", body["labels"]
    if "csv" in body:
        return "csv", body["csv"].encode()
    try:
        return "parquet", base64.b64decode(body["parquet"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput.at("/parquet", "bad_base64", "parquet is a file in base64.") from error
