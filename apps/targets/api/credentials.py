"""Replacing what opens a target. It goes in, and never comes out."""

from __future__ import annotations

from typing import ClassVar

from rest_framework.request import Request
from rest_framework.response import Response

from apps.kernel.rest import ApiView, StrictObject, StrictSerializer, actor_of, body_of, operation
from apps.targets.api.shapes import TargetSchema, target_show
from apps.targets.api.views import CREDENTIALS, TARGET
from apps.targets.services.credentials import credentials_replace


class CredentialsBody(StrictSerializer):
    credentials = StrictObject(help_text=CREDENTIALS)


class CredentialsView(ApiView):
    action_required: ClassVar = {"PUT": "target.write"}

    @operation(
        "target_credentials_replace",
        "Put other credentials in the place of the stored ones",
        tag="targets",
        description="Every process uses them from its next call on; the target is probed. `{}` forgets the stored "
        "ones, where the connection names files instead.",
        path=TARGET,
        body=CredentialsBody,
        answers={200: TargetSchema},
    )
    def put(self, request: Request, target_name: str) -> Response:
        given = body_of(request, CredentialsBody)["credentials"]
        target = credentials_replace(actor=actor_of(request), target_id=target_name, credentials=given)
        return Response(target_show(target))
