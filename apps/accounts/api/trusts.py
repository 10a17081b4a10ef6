"""CI without stored secrets: trusts, and the exchange of a job's identity for a token of ours."""

from __future__ import annotations

from typing import Any, ClassVar

from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.parsers import FormParser
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api.shapes import TrustBody, TrustSchema, trust_show
from apps.accounts.api_access import IdempotentPost
from apps.accounts.domain.doors import PUBLIC
from apps.accounts.domain.roles import Role
from apps.accounts.selectors import service_get
from apps.accounts.services.exchange import ExchangeRefused, token_exchange
from apps.accounts.services.trusts import trust_create, trust_revoke, trust_visible
from apps.kernel.errors import NotFound
from apps.kernel.rest import (
    ApiView,
    PageQuery,
    Problem,
    StrictChar,
    StrictSerializer,
    actor_of,
    body_of,
    operation,
    page_of,
    page_schema,
    query_of,
)
from apps.kernel.rest.problem_schema import examples_of

TAG = "ci"
TRUST = {"trust_id": "The id of the trust, ct_…"}
GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
TYPES = ("urn:ietf:params:oauth:token-type:id_token", "urn:ietf:params:oauth:token-type:jwt")
ISSUED = "urn:ietf:params:oauth:token-type:access_token"


class TrustsView(IdempotentPost, ApiView):
    action_required: ClassVar = {"GET": "member.read", "POST": "trust.write"}

    @operation(
        "ci_trust_list", "Which CI jobs may act as which service accounts", tag=TAG, query=PageQuery,
        answers={200: page_schema("CiTrust", TrustSchema)},
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        found = trust_visible(actor_of(request))
        return Response(page_of(found, key="id", show=trust_show, **query_of(request, PageQuery)))

    @operation(
        "ci_trust_create", "Trust a CI job", tag=TAG, body=TrustBody,
        description="Every claim is compared exactly; there are no wildcards. A change is a new trust.",
        is_idempotent=True, answers={201: TrustSchema}, errors=(404, 409),
    )  # fmt: skip
    def post(self, request: Request) -> Response:
        asked = body_of(request, TrustBody)
        account = service_get(asked.pop("service"))
        roles = frozenset(Role(role) for role in asked.pop("roles"))
        trust = trust_create(actor=actor_of(request), account=account, roles=roles, **asked)
        return Response(trust_show(trust), status=201, headers={"Location": f"/api/v1/ci-trusts/{trust.pk}"})


class TrustView(ApiView):
    action_required: ClassVar = {"GET": "member.read", "DELETE": "trust.write"}

    @operation("ci_trust_get", "A trust", tag=TAG, path=TRUST, answers={200: TrustSchema})
    def get(self, request: Request, trust_id: str) -> Response:
        found = trust_visible(actor_of(request)).filter(pk=trust_id).first()
        if found is None:
            raise NotFound("trust_unknown", "There is no such trust.")
        return Response(trust_show(found))

    @operation(
        "ci_trust_revoke", "Stop trusting; its tokens open nothing any more", tag=TAG, path=TRUST,
        answers={200: TrustSchema},
    )  # fmt: skip
    def delete(self, request: Request, trust_id: str) -> Response:
        return Response(trust_show(trust_revoke(actor=actor_of(request), trust_id=trust_id)))


class ExchangeBody(StrictSerializer):
    grant_type = StrictChar(max_length=100, help_text=GRANT)
    subject_token_type = StrictChar(max_length=100, help_text=TYPES[0])
    subject_token = StrictChar(max_length=16_384, help_text="The identity token of the CI job.")
    scope = StrictChar(
        max_length=200, required=False, default="", allow_blank=True, help_text="Roles, space-separated."
    )
    account = StrictChar(max_length=150, required=False, default="", help_text="Where several accounts trust the job.")
    requested_token_type = StrictChar(max_length=100, required=False, default=ISSUED)


class ExchangeSchema(serializers.Serializer[Any]):
    access_token = serializers.CharField()
    issued_token_type = serializers.CharField()
    token_type = serializers.CharField()
    expires_in = serializers.IntegerField()
    scope = serializers.CharField()


_REFUSALS: dict[Any, Any] = {
    (status, "application/problem+json"): OpenApiResponse(Problem, description=meaning, examples=examples_of(status))
    for status, meaning in {
        400: "No token; `error` is the code of RFC 6749 5.2.",
        406: "Only application/json can be answered.",
        415: "The body is not form-encoded.",
        422: "A field is missing or unknown; `errors` names it.",
        429: "Too many attempts; repeat after `Retry-After`.",
        500: "A fault of the server's own; its log has more under the request id.",
        503: "The issuer's keys cannot be fetched; repeat after `Retry-After`.",
    }.items()
}


class ExchangeView(ApiView):
    """RFC 8693. The identity in the body is the credential; refusals are problem details that carry ``error`` too."""

    action_required = PUBLIC
    authentication_classes = ()
    parser_classes = (FormParser,)  # type: ignore[assignment]

    def handle_exception(self, exc: Exception) -> Response:
        """RFC 6749 5.2: a refused grant is 400."""
        response = super().handle_exception(exc)
        if isinstance(exc, ExchangeRefused):
            response.status_code = response.data["status"] = 400
        return response

    @extend_schema(  # type: ignore[untyped-decorator]
        operation_id="token_exchange",
        summary="Exchange a CI identity for a token that works for 15 minutes",
        description="Form-encoded, RFC 8693. Trusts say which jobs; each identity is taken once.",
        tags=[TAG],
        auth=[],
        request={"application/x-www-form-urlencoded": ExchangeBody},
        responses={
            200: ExchangeSchema,
            **_REFUSALS,
        },
    )
    def post(self, request: Request) -> Response:
        given = ExchangeBody(data=request.data.dict() if hasattr(request.data, "dict") else request.data)
        given.is_valid(raise_exception=True)
        asked = given.validated_data
        if asked["grant_type"] != GRANT:
            raise ExchangeRefused("unsupported_grant_type", f"grant_type is {GRANT}.")
        if asked["subject_token_type"] not in TYPES or asked["requested_token_type"] != ISSUED:
            raise ExchangeRefused("invalid_request", f"subject_token_type is {TYPES[0]}; an access token is issued.")
        found = token_exchange(
            subject_token=asked["subject_token"],
            scope=asked["scope"],
            account=asked["account"],
            request_id=str(getattr(request, "request_id", "")),
        )
        answer = {
            "access_token": found.token,
            "issued_token_type": ISSUED,
            "token_type": "Bearer",
            "expires_in": found.expires_in_seconds,
            "scope": " ".join(found.roles),
        }
        return Response(answer, headers={"Cache-Control": "no-store", "Pragma": "no-cache"})
