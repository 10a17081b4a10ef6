"""Endpoints. Here and not in targets, because removing one must know of the rollout that is under way there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api_access import idempotent
from apps.kernel.errors import Conflict
from apps.kernel.rest import (
    ApiView,
    PageQuery,
    StrictChar,
    StrictSerializer,
    actor_of,
    body_of,
    if_match,
    operation,
    page_of,
    page_schema,
    query_of,
    with_etag,
)
from apps.registry.selectors import version_by
from apps.rollouts.api.endpoint_shapes import EndpointSchema, endpoint_show
from apps.rollouts.domain.machine import ACTIVE
from apps.rollouts.models import Rollout
from apps.targets.selectors import endpoint_get, endpoint_list, target_get
from apps.targets.services.connect import endpoint_create, endpoint_follow, endpoint_remove

TAG = "endpoints"
FOLLOWS = "An alias of the model: an approved move of it starts a rollout here. Empty: none."
ENDPOINT = {"endpoint_name": "The endpoint's name or id."}


class EndpointBody(StrictSerializer):
    name = StrictChar(max_length=63, help_text="Part of the address: small letters, digits, hyphens.")
    target = StrictChar(max_length=80, help_text="A target's name or id.")
    model = StrictChar(max_length=100)
    version = StrictChar(max_length=100, help_text="What it serves first: a version, a number or an alias.")
    follows = StrictChar(max_length=255, allow_blank=True, default="", help_text=FOLLOWS)


class EndpointChange(StrictSerializer):
    follows = StrictChar(max_length=255, allow_blank=True, help_text=FOLLOWS)


class EndpointsQuery(PageQuery):
    target = StrictChar(max_length=80, required=False, help_text="On this target only.")


class ReasonQuery(StrictSerializer):
    reason = StrictChar(max_length=300)


class EndpointsView(ApiView):
    action_required: ClassVar = {"GET": "endpoint.read", "POST": "endpoint.write"}

    @operation(
        "endpoint_list",
        "Endpoints by name",
        tag=TAG,
        query=EndpointsQuery,
        errors=(404,),
        answers={200: page_schema("Endpoint", EndpointSchema)},
    )
    def get(self, request: Request) -> Response:
        asked = query_of(request, EndpointsQuery)
        target, actor = asked.pop("target", None), actor_of(request)
        found = endpoint_list(actor, target_id=None if target is None else target_get(target, actor).pk)
        page = page_of(found, key="name", show=lambda row: {"row": row}, **asked)
        rows = [item["row"] for item in page["items"]]
        active = rollouts_under_way(row.pk for row in rows)
        return Response({**page, "items": [endpoint_show(row, active.get(row.pk)) for row in rows]})

    @operation(
        "endpoint_create",
        "Serve a version at a new address, with all traffic",
        tag=TAG,
        body=EndpointBody,
        errors=(404,),
        is_idempotent=True,
        answers={201: EndpointSchema},
    )
    @idempotent
    def post(self, request: Request) -> Response:
        asked, actor = body_of(request, EndpointBody), actor_of(request)
        version = version_by(asked["model"], asked["version"], actor=actor)
        created = endpoint_create(
            actor=actor,
            name=asked["name"],
            target_id=target_get(asked["target"], actor).pk,
            model_id=version.model_id,
            version_id=version.pk,
            follows=asked["follows"],
        )
        endpoint = endpoint_get(created.pk)
        place = f"/api/v1/endpoints/{endpoint.name}"
        return Response(endpoint_show(endpoint, None), status=201, headers={"Location": place})


class EndpointView(ApiView):
    action_required: ClassVar = {"GET": "endpoint.read", "PATCH": "endpoint.write", "DELETE": "endpoint.write"}

    @operation("endpoint_get", "One endpoint", tag=TAG, path=ENDPOINT, has_etag=True, answers={200: EndpointSchema})
    def get(self, request: Request, endpoint_name: str) -> Response:
        endpoint = endpoint_get(endpoint_name, actor_of(request))
        active = rollouts_under_way([endpoint.pk])
        return with_etag(endpoint_show(endpoint, active.get(endpoint.pk)), endpoint.revision)

    @operation(
        "endpoint_change",
        "Say which alias the endpoint follows",
        tag=TAG,
        path=ENDPOINT,
        body=EndpointChange,
        needs_if_match=True,
        answers={200: EndpointSchema},
    )
    def patch(self, request: Request, endpoint_name: str) -> Response:
        asked, actor = body_of(request, EndpointChange), actor_of(request)
        endpoint = endpoint_get(endpoint_name, actor)
        if_match(request, endpoint.revision)
        changed = endpoint_follow(actor=actor, endpoint_id=endpoint.pk, follows=asked["follows"])
        active = rollouts_under_way([changed.pk])
        return with_etag(endpoint_show(changed, active.get(changed.pk)), changed.revision)

    @operation(
        "endpoint_remove",
        "Stop serving and forget the address",
        tag=TAG,
        description="Refused while a rollout is under way there: abort it first.",
        path=ENDPOINT,
        query=ReasonQuery,
        errors=(409,),
        needs_if_match=True,
        answers={204: None},
    )
    def delete(self, request: Request, endpoint_name: str) -> Response:
        reason = query_of(request, ReasonQuery)["reason"]
        endpoint = endpoint_get(endpoint_name, actor_of(request))
        if_match(request, endpoint.revision)
        active = rollouts_under_way([endpoint.pk]).get(endpoint.pk)
        if active is not None:
            raise Conflict(
                "rollout_under_way",
                f"Rollout {active} is under way at {endpoint.name}; abort it first.",
                extra={"rollout": active},
            )
        endpoint_remove(actor=actor_of(request), endpoint_id=endpoint.pk, reason=reason)
        return Response(status=204)


def rollouts_under_way(endpoint_ids: Iterable[str]) -> dict[str, str]:
    """Endpoint id to the id of the rollout that works there, or else of the first that waits for its turn."""
    rows = Rollout.objects.filter(endpoint_id__in=list(endpoint_ids), phase__in=sorted(ACTIVE))
    ordered = sorted(
        rows.values_list("endpoint_id", "phase", "pk"), key=lambda row: (row[1] == "pending", row[2]), reverse=True
    )
    return {endpoint_id: rollout_id for endpoint_id, _, rollout_id in ordered}
