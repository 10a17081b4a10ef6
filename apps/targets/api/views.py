"""Targets, freeze windows, and what a variant's processes wrote. Endpoints themselves are in rollouts/api: removing
one must know of the rollout that is under way there."""

from __future__ import annotations

from typing import ClassVar

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api_access import idempotent
from apps.kernel.clock import now
from apps.kernel.rest import (
    ApiView,
    DryRunQuery,
    PageQuery,
    StrictBoolean,
    StrictChar,
    StrictDateTime,
    StrictInteger,
    StrictObject,
    StrictSerializer,
    actor_of,
    body_of,
    operation,
    page_of,
    page_schema,
    query_of,
    rehearsable,
)
from apps.targets.api.shapes import (
    ENVIRONMENTS,
    KINDS,
    POLICIES,
    FreezeSchema,
    LogsSchema,
    TargetSchema,
    freeze_show,
    target_show,
)
from apps.targets.models import Environment, TrafficPolicy
from apps.targets.selectors import endpoint_get, freeze_list, target_get, target_list
from apps.targets.services.connect import target_create, target_probe
from apps.targets.services.freeze import freeze_check_ahead, freeze_create, freeze_remove
from apps.targets.services.observe import endpoint_logs

CREDENTIALS = (
    "kubernetes: kubeconfig (mode kubeconfig), or token and, in PEM form, ca (mode token), instead of files. "
    "Kept encrypted, and never answered."
)
TARGET = {"target_name": "The target's name or id."}


class TargetBody(StrictSerializer):
    name = StrictChar(max_length=63)
    kind = serializers.ChoiceField(choices=KINDS)
    environment = serializers.ChoiceField(choices=ENVIRONMENTS, default=Environment.DEVELOPMENT.value)
    connection = StrictObject(
        default=dict,
        help_text="The driver's own. local: url and token_file of the node agent. kubernetes: auth, "
        "namespace, route, profile; docs/concepts/kubernetes.md lists them. It is shown to whoever may see the target: "
        "secrets belong into credentials, into files below PILOTHOUSE_TOKEN_ROOTS or into Secrets of the cluster.",
    )
    credentials = StrictObject(default=dict, help_text=CREDENTIALS)
    no_traffic_policy = serializers.ChoiceField(choices=POLICIES, default=TrafficPolicy.HOLD.value)


class FreezeBody(StrictSerializer):
    starts_at = StrictDateTime(required=False, help_text="Now, where it is missing.")
    ends_at = StrictDateTime()
    reason = StrictChar(max_length=300)
    environment = serializers.ChoiceField(choices=ENVIRONMENTS, required=False)
    endpoint = StrictChar(max_length=80, required=False, help_text="With neither this nor environment: everything.")


class FreezeQuery(PageQuery):
    include_past = StrictBoolean(default=False)


class ReasonQuery(StrictSerializer):
    reason = StrictChar(max_length=300)


class LogsQuery(StrictSerializer):
    lines = StrictInteger(min_value=1, max_value=1000, default=100)


class TargetsView(ApiView):
    action_required: ClassVar = {"GET": "target.read", "POST": "target.write"}

    @operation(
        "target_list",
        "Targets by name",
        tag="targets",
        query=PageQuery,
        answers={200: page_schema("Target", TargetSchema)},
    )
    def get(self, request: Request) -> Response:
        return Response(
            page_of(target_list(actor_of(request)), key="name", show=target_show, **query_of(request, PageQuery))
        )

    @operation(
        "target_create",
        "Connect a target; it is probed right after",
        tag="targets",
        query=DryRunQuery,
        body=TargetBody,
        is_idempotent=True,
        answers={200: TargetSchema, 201: TargetSchema},
    )
    @rehearsable
    @idempotent
    def post(self, request: Request) -> Response:
        target = target_create(actor=actor_of(request), **body_of(request, TargetBody))
        # read back: the time of creation is the database's
        shown = target_show(target_get(target.pk))
        return Response(shown, status=201, headers={"Location": f"/api/v1/targets/{target.name}"})


class ProbeView(ApiView):
    action_required = "target.write"

    # No stored answer: asking again is the point, and the call to the target must not run inside a transaction.
    @operation(
        "target_probe",
        "Ask the target now what it can do",
        tag="targets",
        description="An unreachable target is an answer as well: `probe_error` says why.",
        path=TARGET,
        answers={200: TargetSchema},
    )
    def post(self, request: Request, target_name: str) -> Response:
        target = target_get(target_name, actor_of(request))
        target_probe(actor=actor_of(request), target_id=target.pk)
        return Response(target_show(target_get(target.pk)))


class FreezesView(ApiView):
    action_required: ClassVar = {"GET": "endpoint.read", "POST": "freeze.write"}

    @operation(
        "freeze_list",
        "Freeze windows that are not over",
        tag="freezes",
        query=FreezeQuery,
        answers={200: page_schema("Freeze", FreezeSchema)},
    )
    def get(self, request: Request) -> Response:
        asked = query_of(request, FreezeQuery)
        found = freeze_list(actor_of(request), at=None if asked.pop("include_past") else now())
        return Response(page_of(found, key="id", show=freeze_show, **asked))

    @operation(
        "freeze_create",
        "No rollout starts or moves forward for a while; going back stays possible",
        tag="freezes",
        query=DryRunQuery,
        body=FreezeBody,
        errors=(404,),
        is_idempotent=True,
        answers={200: FreezeSchema, 201: FreezeSchema},
    )
    @rehearsable
    @idempotent
    def post(self, request: Request) -> Response:
        asked = body_of(request, FreezeBody)
        starts_at = asked.get("starts_at") or now()
        freeze_check_ahead(starts_at, asked["ends_at"])
        window = freeze_create(
            actor=actor_of(request),
            starts_at=starts_at,
            ends_at=asked["ends_at"],
            reason=asked["reason"],
            environment=asked.get("environment", ""),
            endpoint_id=asked.get("endpoint"),
        )
        return Response(freeze_show(window), status=201, headers={"Location": f"/api/v1/freezes/{window.pk}"})


class FreezeView(ApiView):
    action_required = "freeze.write"

    @operation(
        "freeze_remove",
        "Lift a freeze window",
        tag="freezes",
        path={"freeze_id": "The window's id."},
        query=ReasonQuery,
        answers={204: None},
    )
    def delete(self, request: Request, freeze_id: str) -> Response:
        freeze_remove(actor=actor_of(request), freeze_id=freeze_id, reason=query_of(request, ReasonQuery)["reason"])
        return Response(status=204)


class LogsView(ApiView):
    action_required = "endpoint.read"

    @operation(
        "variant_logs",
        "What a variant's processes last wrote",
        tag="endpoints",
        path={"endpoint_name": "The endpoint's name or id.", "variant": "The variant's key, for example v1-1-0."},
        query=LogsQuery,
        errors=(503,),
        answers={200: LogsSchema},
    )
    def get(self, request: Request, endpoint_name: str, variant: str) -> Response:
        lines = query_of(request, LogsQuery)["lines"]
        endpoint = endpoint_get(endpoint_name, actor_of(request))
        found = endpoint_logs(endpoint.pk, variant, lines=lines)
        return Response({"object": "logs", "endpoint": endpoint.name, "variant": variant, "lines": list(found)})
