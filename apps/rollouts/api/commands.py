"""What may be asked of a running rollout: one address per command, so that each has a right of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api_access import idempotent, idempotent_prepared
from apps.accounts.services.access import access_allows
from apps.kernel.actor import Actor
from apps.kernel.errors import Conflict, Forbidden, PolicyRefused
from apps.kernel.rest import ApiView, StrictSerializer, actor_of, body_of, operation, with_etag
from apps.rollouts.api.bodies import AcknowledgeBody, CommandBody, PromoteBody, SafeCommandBody
from apps.rollouts.api.shapes import RolloutSchema, rollout_show
from apps.rollouts.api.views import ROLLOUT, TAG, created
from apps.rollouts.selectors import allowed_commands, rollout_get, rollout_list
from apps.rollouts.services.acknowledge import rollout_acknowledge
from apps.rollouts.services.lifecycle import command_plan, rollout_command

NEW_ONE: dict[int, type[serializers.Serializer[Any]]] = {200: RolloutSchema, 201: RolloutSchema}


def _documented(
    name: str, summary: str, body: type[StrictSerializer], *, may_be_new: bool = False
) -> Callable[[Any], Any]:
    return operation(
        f"rollout_{name}",
        summary,
        tag=TAG,
        path=ROLLOUT,
        body=body,
        is_idempotent=True,
        answers=NEW_ONE if may_be_new else {200: RolloutSchema},
    )


class CommandView(ApiView):
    """A refusal says what could be asked instead, and where the rollout is: nobody has to call again to find out."""

    def handle_exception(self, exc: Exception) -> Response:
        actor = getattr(self.request, "actor", None)
        if isinstance(exc, Conflict | Forbidden | PolicyRefused) and actor is not None:
            exc.extra = {**self._alternatives(actor), **exc.extra}
        return super().handle_exception(exc)

    def _alternatives(self, actor: Actor) -> dict[str, Any]:
        """Nothing for somebody who may not look at rollouts, or when there is none."""
        rollout = rollout_list(actor).filter(pk=self.kwargs["rollout_id"]).first()
        if rollout is None:
            return {}
        place = rollout.endpoint.team_id, rollout.endpoint.target.environment
        possible = [
            one for one in allowed_commands(rollout) if one.is_allowed and access_allows(actor, one.action, *place)
        ]
        return {
            "allowed_actions": [one.command.replace("_", "-") for one in possible],
            "revision": rollout.revision,
            "step": rollout.step,
            "phase": rollout.phase,
        }


def _carry_out(request: Request, rollout_id: str, command: str, body: type[StrictSerializer]) -> Callable[[], Response]:
    """200 with the rollout as it is then, 201 where the command has made a new one."""
    asked = body_of(request, body)
    planned = command_plan(actor=actor_of(request), rollout_id=rollout_id, command=command)

    def effect() -> Response:
        result = rollout_command(
            actor=actor_of(request), rollout_id=rollout_id, command=command, planned=planned, **asked
        )
        if result.pk != rollout_id:
            return created(result.pk)
        rollout = rollout_get(rollout_id)
        return with_etag(rollout_show(rollout), rollout.revision)

    return effect


class PauseView(CommandView):
    action_required: ClassVar = {"POST": "rollout.pause"}

    @_documented("pause", "Stop moving forward; traffic stays as it is", CommandBody)
    @idempotent
    def post(self, request: Request, rollout_id: str) -> Response:
        return _carry_out(request, rollout_id, "pause", CommandBody)()


class ResumeView(CommandView):
    action_required: ClassVar = {"POST": "rollout.resume"}

    @_documented("resume", "Go on after a pause", CommandBody)
    @idempotent
    def post(self, request: Request, rollout_id: str) -> Response:
        return _carry_out(request, rollout_id, "resume", CommandBody)()


class PromoteView(CommandView):
    action_required: ClassVar = {"POST": "rollout.promote"}

    @_documented("promote", "All traffic to the candidate; the rest of the plan is skipped", PromoteBody)
    @idempotent
    def post(self, request: Request, rollout_id: str) -> Response:
        return _carry_out(request, rollout_id, "promote", PromoteBody)()


class AbortView(CommandView):
    action_required: ClassVar = {"POST": "rollout.abort"}

    @_documented("abort", "End it: stable gets all traffic again", SafeCommandBody)
    @idempotent
    def post(self, request: Request, rollout_id: str) -> Response:
        return _carry_out(request, rollout_id, "abort", SafeCommandBody)()


class RollBackView(CommandView):
    action_required: ClassVar = {"POST": "rollout.roll_back"}

    @_documented(
        "roll_back",
        "Stable gets all traffic again; after a promotion by a new rollout",
        SafeCommandBody,
        may_be_new=True,
    )
    @idempotent_prepared
    def post(self, request: Request, rollout_id: str) -> Callable[[], Response]:
        return _carry_out(request, rollout_id, "roll_back", SafeCommandBody)


class RetryView(CommandView):
    action_required: ClassVar = {"POST": "rollout.retry"}

    @_documented("retry", "A new attempt with the same plan", CommandBody, may_be_new=True)
    @idempotent_prepared
    def post(self, request: Request, rollout_id: str) -> Callable[[], Response]:
        return _carry_out(request, rollout_id, "retry", CommandBody)


class AcknowledgeView(CommandView):
    action_required: ClassVar = {"POST": "rollout.acknowledge"}

    @_documented("acknowledge", "Say that you know it went back; until then it needs somebody", AcknowledgeBody)
    @idempotent
    def post(self, request: Request, rollout_id: str) -> Response:
        asked = body_of(request, AcknowledgeBody)
        rollout = rollout_acknowledge(actor=actor_of(request), rollout_id=rollout_id, **asked)
        return with_etag(rollout_show(rollout), rollout.revision)
