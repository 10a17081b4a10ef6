"""Rollout sequences: list, plan, start, follow, steer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api_access import idempotent, idempotent_prepared
from apps.accounts.services.access import access_require
from apps.kernel.actor import Actor
from apps.kernel.rest import (
    ApiView,
    PageQuery,
    StrictSerializer,
    actor_of,
    body_of,
    operation,
    page_of,
    page_schema,
    query_of,
    with_etag,
)
from apps.registry.selectors import version_by
from apps.rollouts.api.bodies import StartQuery
from apps.rollouts.api.drafts import plan_parts
from apps.rollouts.api.sequence_shapes import (
    PlannedSequenceSchema,
    SequenceAbortBody,
    SequenceBody,
    SequenceCommandBody,
    SequenceSchema,
    SequencesQuery,
    SequenceTransitionSchema,
    planned_sequence_show,
    sequence_show,
    sequence_transition_show,
)
from apps.rollouts.domain.waves import WaveAsked
from apps.rollouts.selectors import sequence_get, sequence_list, sequence_transitions_of
from apps.rollouts.services.plan import plan_expect
from apps.rollouts.services.sequences import (
    PlannedSequence,
    sequence_command,
    sequence_plan,
    sequence_start,
)
from apps.targets.selectors import endpoint_get
from apps.targets.services.scope import endpoint_require

TAG = "rollout sequences"
SEQUENCE = {"sequence_id": "The sequence's id."}


class SequencesView(ApiView):
    action_required: ClassVar = {"GET": "rollout.read", "POST": "rollout.plan"}

    @operation(
        "rollout_sequence_list",
        "Rollout sequences, newest first",
        tag=TAG,
        query=SequencesQuery,
        answers={200: page_schema("RolloutSequence", SequenceSchema)},
    )
    def get(self, request: Request) -> Response:
        asked = query_of(request, SequencesQuery)
        found = sequence_list(actor_of(request))
        if "phase" in asked:
            found = found.filter(phase=asked.pop("phase"))
        return Response(page_of(found, key="-id", show=sequence_show, **asked))

    @operation(
        "rollout_sequence_start",
        "Plan one version to several endpoints in waves (`dry_run=true`), or start it",
        tag=TAG,
        description="A dry run plans and checks every member and stores nothing. Its `plan_hash`, sent along as "
        "`expected_plan_hash`, starts exactly this or nothing. The rights of a rollout are needed at every endpoint.",
        query=StartQuery,
        body=SequenceBody,
        errors=(404, 503),
        is_idempotent=True,
        answers={200: PlannedSequenceSchema, 201: SequenceSchema},
    )
    def post(self, request: Request) -> Response:
        if query_of(request, StartQuery)["dry_run"]:
            body = body_of(request, SequenceBody)
            planned = _planned(actor_of(request), body)
            plan_expect(planned.plan_hash, body.get("expected_plan_hash"))
            return Response(planned_sequence_show(planned))
        access_require(actor_of(request), "rollout.start")
        return self._start(request)

    @idempotent_prepared
    def _start(self, request: Request) -> Callable[[], Response]:
        body, actor = body_of(request, SequenceBody), actor_of(request)
        for wave in body["waves"]:
            for name in wave["endpoints"]:
                endpoint_require(actor, "rollout.start", name)
        planned = _planned(actor, body)  # reads the whole artifact, asks every target

        def start() -> Response:
            row = sequence_start(
                actor=actor,
                planned=planned,
                expected_plan_hash=body.get("expected_plan_hash"),
                note=body["note"],
            )
            response = with_etag(sequence_show(row), row.revision, status=201)
            response["Location"] = f"/api/v1/rollout-sequences/{row.pk}"
            return response

        return start


class SequenceView(ApiView):
    action_required = "rollout.read"

    @operation(
        "rollout_sequence_get",
        "One rollout sequence with its members",
        tag=TAG,
        path=SEQUENCE,
        has_etag=True,
        answers={200: SequenceSchema},
    )
    def get(self, request: Request, sequence_id: str) -> Response:
        row = sequence_get(sequence_id, actor_of(request))
        return with_etag(sequence_show(row), row.revision)


class SequenceTransitionsView(ApiView):
    action_required = "rollout.read"

    @operation(
        "rollout_sequence_transitions",
        "Every decision that moved a sequence, oldest first",
        tag=TAG,
        path=SEQUENCE,
        query=PageQuery,
        answers={200: page_schema("SequenceTransition", SequenceTransitionSchema)},
    )
    def get(self, request: Request, sequence_id: str) -> Response:
        asked = query_of(request, PageQuery)
        row = sequence_get(sequence_id, actor_of(request))
        found = sequence_transitions_of(row.pk).defer("state", "seen", "decision")
        return Response(page_of(found, key="revision", show=sequence_transition_show, **asked))


def _documented(name: str, summary: str, body: type[StrictSerializer]) -> Callable[[Any], Any]:
    return operation(
        f"rollout_sequence_{name}",
        summary,
        tag=TAG,
        path=SEQUENCE,
        body=body,
        is_idempotent=True,
        answers={200: SequenceSchema},
    )


def _carry_out(request: Request, sequence_id: str, command: str, body: type[StrictSerializer]) -> Response:
    asked = body_of(request, body)
    row = sequence_command(
        actor=actor_of(request),
        sequence_id=sequence_id,
        command=command,
        expected_revision=asked.get("expected_revision"),
        reason=asked["reason"],
        is_whole=asked.get("roll_back", False),
    )
    return with_etag(sequence_show(row), row.revision)


class SequencePauseView(ApiView):
    action_required: ClassVar = {"POST": "rollout.pause"}

    @_documented("pause", "Nothing more starts; members under way pause, guardrails go on", SequenceCommandBody)
    @idempotent
    def post(self, request: Request, sequence_id: str) -> Response:
        return _carry_out(request, sequence_id, "pause", SequenceCommandBody)


class SequenceResumeView(ApiView):
    action_required: ClassVar = {"POST": "rollout.resume"}

    @_documented("resume", "Go on; after a stop, members that failed are tried again", SequenceCommandBody)
    @idempotent
    def post(self, request: Request, sequence_id: str) -> Response:
        return _carry_out(request, sequence_id, "resume", SequenceCommandBody)


class SequenceContinueView(ApiView):
    action_required: ClassVar = {"POST": "rollout.resume"}

    @_documented("continue", "Begin the next wave; what is left of a bake is skipped", SequenceCommandBody)
    @idempotent
    def post(self, request: Request, sequence_id: str) -> Response:
        return _carry_out(request, sequence_id, "continue", SequenceCommandBody)


class SequenceAbortView(ApiView):
    action_required: ClassVar = {"POST": "rollout.abort"}

    @_documented("abort", "Nothing more starts, members under way go back; the others if asked", SequenceAbortBody)
    @idempotent
    def post(self, request: Request, sequence_id: str) -> Response:
        return _carry_out(request, sequence_id, "abort", SequenceAbortBody)


def _planned(actor: Actor, body: Mapping[str, Any]) -> PlannedSequence:
    waves = [WaveAsked(tuple(wave["endpoints"]), wave["bake_seconds"]) for wave in body["waves"]]
    model = endpoint_get(waves[0].endpoints[0], actor).model.name
    return sequence_plan(
        actor=actor,
        version_id=version_by(model, body["version"], actor=actor).pk,
        waves=waves,
        on_failure=body["on_failure"],
        max_concurrent=body.get("max_concurrent"),
        approve_once=body["approve_once"],
        **plan_parts(body),
    )
