"""Rollouts: list, plan, start, follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api_access import idempotent_prepared
from apps.accounts.services.access import access_require
from apps.kernel.actor import Actor
from apps.kernel.rest import (
    ApiView,
    PageQuery,
    actor_of,
    body_of,
    operation,
    page_of,
    page_schema,
    query_of,
    with_etag,
)
from apps.rollouts.api.bodies import RolloutBody, RolloutsQuery, StartQuery, WaitQuery
from apps.rollouts.api.drafts import draft_of
from apps.rollouts.api.shapes import (
    PlannedSchema,
    RolloutSchema,
    TransitionSchema,
    planned_show,
    rollout_show,
    transition_show,
)
from apps.rollouts.api.waiting import wait_for_news
from apps.rollouts.selectors import rollout_get, rollout_list, transitions_of
from apps.rollouts.services.lifecycle import rollout_start
from apps.rollouts.services.plan import plan_expect, rollout_plan
from apps.targets.selectors import endpoint_get
from apps.targets.services.scope import endpoint_require

TAG = "rollouts"
ROLLOUT = {"rollout_id": "The rollout's id."}


class RolloutsView(ApiView):
    action_required: ClassVar = {"GET": "rollout.read", "POST": "rollout.plan"}

    @operation(
        "rollout_list",
        "Rollouts, newest first",
        tag=TAG,
        query=RolloutsQuery,
        errors=(404,),
        answers={200: page_schema("Rollout", RolloutSchema)},
    )
    def get(self, request: Request) -> Response:
        asked = query_of(request, RolloutsQuery)
        actor = actor_of(request)
        found = rollout_list(actor)
        if "endpoint" in asked:
            found = found.filter(endpoint_id=endpoint_get(asked.pop("endpoint"), actor).pk)
        if "phase" in asked:
            found = found.filter(phase__in=asked.pop("phase"))
        return Response(page_of(found, key="-id", show=rollout_show, **asked))

    @operation(
        "rollout_start",
        "Plan a rollout (`dry_run=true`), or start one",
        tag=TAG,
        description="A dry run makes the plan, runs every check and stores nothing. Its `plan_hash`, sent along as "
        "`expected_plan_hash`, starts exactly this plan or nothing.",
        query=StartQuery,
        body=RolloutBody,
        errors=(404, 503),
        is_idempotent=True,
        answers={
            200: PlannedSchema,
            201: RolloutSchema,
        },
    )
    def post(self, request: Request) -> Response:
        if query_of(request, StartQuery)["dry_run"]:
            # before the idempotent part: a stored answer would be something stored
            return Response(_dry_run(actor_of(request), body_of(request, RolloutBody)))
        access_require(actor_of(request), "rollout.start")
        return self._start(request)

    @idempotent_prepared
    def _start(self, request: Request) -> Callable[[], Response]:
        body = body_of(request, RolloutBody)
        actor = actor_of(request)
        draft = draft_of(actor, body)
        endpoint_require(actor, "rollout.start", draft["endpoint_id"])
        planned = rollout_plan(actor=actor, **draft)  # reads the whole artifact

        def start() -> Response:
            started = rollout_start(
                actor=actor,
                expected_plan_hash=body.get("expected_plan_hash"),
                note=body["note"],
                planned=planned,
                **draft,
            )
            return created(started.pk)

        return start


class RolloutView(ApiView):
    action_required = "rollout.read"

    @operation(
        "rollout_get",
        "One rollout; with `wait_seconds` answered as soon as there is news",
        tag=TAG,
        description="The entity tag begins with the revision. `reason` can change without a new one: it says what is "
        "waited for.",
        path=ROLLOUT,
        query=WaitQuery,
        has_etag=True,
        answers={200: RolloutSchema},
    )
    def get(self, request: Request, rollout_id: str) -> Response:
        asked, actor = query_of(request, WaitQuery), actor_of(request)
        rollout = rollout_get(rollout_id, actor)
        if asked["wait_seconds"]:
            wait_for_news(rollout_id, after_revision=asked["after_revision"], wait_seconds=float(asked["wait_seconds"]))
            rollout = rollout_get(rollout_id, actor)
        return with_etag(rollout_show(rollout), rollout.revision)


class TransitionsView(ApiView):
    action_required = "rollout.read"

    @operation(
        "rollout_transitions",
        "Every decision that moved a rollout, oldest first",
        tag=TAG,
        path=ROLLOUT,
        query=PageQuery,
        answers={200: page_schema("Transition", TransitionSchema)},
    )
    def get(self, request: Request, rollout_id: str) -> Response:
        asked = query_of(request, PageQuery)
        found = transitions_of(rollout_get(rollout_id, actor_of(request)).pk).defer("state", "seen", "decision")
        return Response(page_of(found, key="revision", show=transition_show, **asked))


def created(rollout_id: str) -> Response:
    """The answer that a new rollout is."""
    rollout = rollout_get(rollout_id)
    response = with_etag(rollout_show(rollout), rollout.revision, status=201)
    response["Location"] = f"/api/v1/rollouts/{rollout.pk}"
    return response


def _dry_run(actor: Actor, body: Mapping[str, Any]) -> dict[str, Any]:
    """Raises Conflict when the plan is not the expected one."""
    planned = rollout_plan(actor=actor, **draft_of(actor, body))
    plan_expect(planned.plan_hash, body.get("expected_plan_hash"))
    return planned_show(planned)
