"""Changing a connected target: what would change, and changing it."""

from __future__ import annotations

from typing import Any, ClassVar

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.kernel.rest import (
    ApiView,
    StrictBoolean,
    StrictObject,
    StrictSerializer,
    actor_of,
    body_of,
    if_match,
    operation,
    with_etag,
)
from apps.targets.api.shapes import ENVIRONMENTS, POLICIES, TargetSchema, target_show
from apps.targets.api.views import CREDENTIALS, TARGET
from apps.targets.selectors import target_get
from apps.targets.services.update import TargetChange, target_change, target_update

HELD = (
    "Where things run (`namespace`, `route.kind`) stays while endpoints are served there, and all but credentials, "
    "`build` and `no_traffic_policy` while a rollout, a sequence or an experiment is under way: 409 names them."
)


class TargetChangeBody(StrictSerializer):
    """What is left out stays."""

    environment = serializers.ChoiceField(choices=ENVIRONMENTS, required=False)
    connection = StrictObject(required=False, help_text="The whole of it, as `target_get` shows it, with the changes.")
    credentials = StrictObject(
        required=False, help_text=f"{CREDENTIALS} Those that are left out stay, null forgets one."
    )
    no_traffic_policy = serializers.ChoiceField(choices=POLICIES, required=False)


class TargetPatchBody(TargetChangeBody):
    even_if_silent = StrictBoolean(
        default=False, help_text="Store it although the target does not answer with these settings."
    )


class TargetDifferenceSchema(serializers.Serializer[Any]):
    path = serializers.CharField(help_text="The place, with dots: `connection.route.hosts`.")
    before = serializers.JSONField(allow_null=True)
    after = serializers.JSONField(allow_null=True)


class TargetChangeSchema(serializers.Serializer[Any]):
    object = serializers.CharField()
    target = serializers.CharField()
    revision = serializers.IntegerField(help_text="That it was compared with.")
    differences = TargetDifferenceSchema(many=True)
    credentials_replaced = serializers.ListField(child=serializers.CharField())
    credentials_forgotten = serializers.ListField(child=serializers.CharField())
    version = serializers.CharField(allow_blank=True, help_text="What answered with these settings.")
    probe_error = serializers.CharField(allow_blank=True, help_text="Why nothing did.")
    warnings = serializers.ListField(child=serializers.CharField())


class TargetView(ApiView):
    action_required: ClassVar = {"GET": "target.read", "PATCH": "target.write"}

    @operation("target_get", "One target", tag="targets", path=TARGET, has_etag=True, answers={200: TargetSchema})
    def get(self, request: Request, target_name: str) -> Response:
        found = target_get(target_name, actor_of(request))
        return with_etag(target_show(found), found.revision)

    # No stored answer: the target is asked with the new settings first, which must not run inside a transaction;
    # sent again it finds nothing that differs, or that somebody was faster (412).
    @operation(
        "target_update",
        "Change a connected target; it is asked with the new settings first",
        tag="targets",
        description=f"Name and kind stay. {HELD} A target that does not answer is refused unless `even_if_silent`.",
        path=TARGET,
        body=TargetPatchBody,
        errors=(409,),
        needs_if_match=True,
        answers={200: TargetSchema},
    )
    def patch(self, request: Request, target_name: str) -> Response:
        asked, actor = body_of(request, TargetPatchBody), actor_of(request)
        is_forced = asked.pop("even_if_silent")
        seen = target_get(target_name, actor)
        if_match(request, seen.revision)
        change = target_change(actor=actor, target_id=seen.pk, **asked)
        after = target_update(actor=actor, change=change, expected_revision=seen.revision, even_if_silent=is_forced)
        return with_etag(target_show(after), after.revision)


class TargetChangeView(ApiView):
    action_required = "target.write"

    # Nothing is stored and asking again is the point.
    @operation(
        "target_change_check",
        "What would a change of this target change, and does it answer then?",
        tag="targets",
        description=f"Nothing is stored. {HELD}",
        path=TARGET,
        body=TargetChangeBody,
        errors=(409,),
        answers={200: TargetChangeSchema},
    )
    def post(self, request: Request, target_name: str) -> Response:
        asked, actor = body_of(request, TargetChangeBody), actor_of(request)
        return Response(_shown(target_change(actor=actor, target_id=target_get(target_name, actor).pk, **asked)))


def _shown(change: TargetChange) -> dict[str, Any]:
    report = change.report
    return {
        "object": "target_change",
        "target": change.target.name,
        "revision": change.target.revision,
        "differences": [{"path": one.path, "before": one.before, "after": one.after} for one in change.differences],
        "credentials_replaced": list(change.replaced),
        "credentials_forgotten": list(change.forgotten),
        "version": report.version if report else "",
        "probe_error": change.probe_error,
        "warnings": [*change.warnings, *(report.warnings if report else ())],
    }
