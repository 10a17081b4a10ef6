"""A small site with one door of every kind, for the tests of the doors."""

from __future__ import annotations

from typing import Any, ClassVar

from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.api_access import IdempotentPost
from apps.accounts.domain.doors import PUBLIC, SIGNED_IN
from apps.accounts.models import SetupToken
from apps.accounts.web_access import declares
from apps.kernel.errors import Conflict


class Fleet(APIView):
    action_required = "fleet.read"

    def get(self, request: Request) -> Response:
        return Response({"actor": request.actor.label, "kind": request.actor.kind})  # type: ignore[attr-defined]


class ByMethod(APIView):
    action_required: ClassVar = {"GET": "rollout.read", "POST": "rollout.start"}

    def get(self, request: Request) -> Response:
        return Response({"read": True})

    def post(self, request: Request) -> Response:
        return Response({"started": True}, status=201)


class Undeclared(APIView):
    def get(self, request: Request) -> Response:
        return Response({"secret": True})


class HalfDeclared(ByMethod):
    action_required: ClassVar = {"GET": "rollout.read"}


class Misspelt(Fleet):
    action_required = "fleet.raed"


class Open(Fleet):
    action_required = PUBLIC

    def get(self, request: Request) -> Response:
        return Response({"open": True})


class Me(Fleet):
    action_required = SIGNED_IN


class Things(IdempotentPost, APIView):
    """Makes a row per POST, so that effects can be counted."""

    action_required = "rollout.start"

    def post(self, request: Request) -> Response:
        body = dict(request.data)
        thing = SetupToken.objects.create(token_hash=str(body["name"]))
        if body.get("fail"):
            raise Conflict("things_collide", "This one always fails after its effect.")
        return Response({"id": thing.pk, "share": 0.5}, status=201, headers={"Location": f"/things/{thing.pk}"})


@declares("fleet.read")
def page(request: HttpRequest, **_: Any) -> HttpResponse:
    return HttpResponse(request.actor.label)  # type: ignore[attr-defined]


@declares({"GET": "rollout.read", "POST": "rollout.start"})
def form(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.method)


@declares(PUBLIC)
def welcome(request: HttpRequest) -> HttpResponse:
    return HttpResponse("welcome")


def forgotten(request: HttpRequest) -> HttpResponse:
    return HttpResponse("nobody declared me")


app_name = "accounts"
inner = [path("sign-in", welcome, name="sign_in")]
urlpatterns = [
    path("api/fleet", Fleet.as_view()),
    path("api/by-method", ByMethod.as_view()),
    path("api/undeclared", Undeclared.as_view()),
    path("api/half", HalfDeclared.as_view()),
    path("api/misspelt", Misspelt.as_view()),
    path("api/open", Open.as_view()),
    path("api/me", Me.as_view()),
    path("api/things", Things.as_view()),
    path("page", page),
    path("form", form),
    path("forgotten", forgotten),
    path("", include((inner, "accounts"))),
]
