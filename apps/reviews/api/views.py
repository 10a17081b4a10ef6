"""Reviews over HTTP. A key may read and withdraw; deciding is for people, whose session the page carries."""

from __future__ import annotations

from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api_access import idempotent
from apps.kernel.rest import ApiView, actor_of, body_of, operation, page_of, page_schema, query_of, with_etag
from apps.reviews.api.shapes import (
    DecisionBody,
    ListQuery,
    ReviewDetailSchema,
    ReviewSchema,
    WithdrawBody,
    detail_show,
    review_show,
)
from apps.reviews.domain.states import Verdict
from apps.reviews.models import Review
from apps.reviews.selectors import decisions_of, review_get, review_list
from apps.reviews.services.decide import review_decide
from apps.reviews.services.open import review_withdraw

REVIEW = {"review_id": "The review's id."}


class ReviewsView(ApiView):
    action_required = "review.read"

    @operation(
        "review_list",
        "Reviews, newest first",
        tag="reviews",
        query=ListQuery,
        answers={200: page_schema("Review", ReviewSchema)},
    )
    def get(self, request: Request) -> Response:
        asked = query_of(request, ListQuery)
        names = ("state", "subject_kind", "subject_id")
        wanted = {name: asked.pop(name) for name in names if name in asked}
        found = review_list(actor_of(request)).filter(**wanted)
        return Response(page_of(found, key="-id", show=review_show, **asked))


class ReviewView(ApiView):
    action_required = "review.read"

    @operation(
        "review_get",
        "One review with its evidence and decisions",
        tag="reviews",
        path=REVIEW,
        answers={200: ReviewDetailSchema},
    )
    def get(self, request: Request, review_id: str) -> Response:
        return _detail(review_get(review_id, actor_of(request)))


class DecisionsView(ApiView):
    action_required = "review.read"  # a remark needs no more; the service asks for the review's own right

    @operation(
        "review_decide",
        "Approve, reject, ask for more, or comment",
        tag="reviews",
        description="For people only: a key gets 403. What was looked at is sent along; a stale view gets 409.",
        path=REVIEW,
        body=DecisionBody,
        errors=(409,),
        is_idempotent=True,
        answers={200: ReviewDetailSchema},
    )
    @idempotent
    def post(self, request: Request, review_id: str) -> Response:
        asked = body_of(request, DecisionBody)
        actor = actor_of(request)
        review_get(review_id, actor)
        verdict = Verdict(asked.pop("verdict"))
        return _detail(review_decide(actor=actor, review_id=review_id, verdict=verdict, **asked))


class WithdrawView(ApiView):
    action_required = "review.request"

    @operation(
        "review_withdraw",
        "Take the question back",
        tag="reviews",
        path=REVIEW,
        body=WithdrawBody,
        errors=(409,),
        is_idempotent=True,
        answers={200: ReviewDetailSchema},
    )
    @idempotent
    def post(self, request: Request, review_id: str) -> Response:
        actor = actor_of(request)
        review_get(review_id, actor)
        return _detail(review_withdraw(actor=actor, review_id=review_id, **body_of(request, WithdrawBody)))


def _detail(review: Review) -> Response:
    return with_etag(detail_show(review, decisions_of(review)), review.revision)
