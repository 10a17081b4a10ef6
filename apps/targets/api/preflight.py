"""Asking a target, before anything is started, whether it would take a version."""

from __future__ import annotations

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from apps.kernel.actor import Actor
from apps.kernel.errors import InvalidInput
from apps.kernel.rest import ApiView, StrictChar, StrictInteger, StrictSerializer, actor_of, body_of, operation
from apps.kernel.rest.preflight_schema import PreflightSchema
from apps.registry.selectors import version_by
from apps.targets.domain.plan import FULL_BP
from apps.targets.domain.preflight import PreflightReport, report_to_json
from apps.targets.models import Target
from apps.targets.selectors import endpoint_get, endpoint_list, target_get
from apps.targets.services.preflight import FIRST_BP, endpoint_preflight, endpoint_preflight_new


class PreflightBody(StrictSerializer):
    endpoint = StrictChar(max_length=63, help_text="One of this target, or the name of a new one.")
    model = StrictChar(max_length=255, required=False, help_text="For a new endpoint: the model that it would serve.")
    version = StrictChar(max_length=100, help_text="The candidate: a version, a number or an alias.")
    weight_bp = StrictInteger(
        min_value=0, max_value=FULL_BP, default=FIRST_BP, help_text="The candidate's first share; not for a new one."
    )


class PreflightView(ApiView):
    action_required = "rollout.plan"

    # Nothing is stored and asking again is the point; the calls to the target must not run inside a transaction.
    @operation(
        "target_preflight",
        "Would the target take this version? What would change there?",
        tag="targets",
        description="Reads and dry runs only. `checks` say what blocks a start and what to do about it, `changes` what "
        "would be created, changed and deleted, `role` the rights to grant. `is_supported` is false where targets of "
        "this kind have nothing to check beforehand. An unreachable target is an answer that blocks.",
        path={"target_name": "The target's name or id."},
        body=PreflightBody,
        answers={200: PreflightSchema},
    )
    def post(self, request: Request, target_name: str) -> Response:
        actor, asked = actor_of(request), body_of(request, PreflightBody)
        report = _ask(actor, target_get(target_name, actor), asked)
        return Response({"object": "preflight", **report_to_json(report)})


def _ask(actor: Actor, target: Target, asked: dict[str, Any]) -> PreflightReport:
    is_taken = endpoint_list().filter(name=asked["endpoint"]).exists()
    endpoint = endpoint_get(asked["endpoint"], actor) if is_taken else None  # another team's is not found
    if endpoint is not None and endpoint.target_id != target.pk:
        detail = f"{endpoint.name} is on target {endpoint.target.name}; ask that one, or name a new endpoint."
        raise InvalidInput.at("/endpoint", "other_target", detail)
    if endpoint is not None:
        version = version_by(endpoint.model.name, asked["version"], actor=actor)
        return endpoint_preflight(
            actor=actor, endpoint_id=endpoint.pk, version_id=version.pk, weight_bp=asked["weight_bp"]
        )
    if "model" not in asked:
        detail = f"There is no endpoint {asked['endpoint']} yet: name the model that it would serve."
        raise InvalidInput.at("/model", "required", detail)
    version = version_by(asked["model"], asked["version"], actor=actor)
    return endpoint_preflight_new(actor=actor, target_id=target.pk, name=asked["endpoint"], version_id=version.pk)
