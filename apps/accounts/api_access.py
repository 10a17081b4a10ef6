"""``@idempotent`` on a handler of an API view, for POSTs that make something; ``@idempotent_prepared`` for one that
reads something slow first."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.db import transaction
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.services.idempotency import Answer, idempotent_run

Handler = Callable[..., Response]
_KEPT_HEADERS = ("Location", "ETag")


def idempotent(handler: Handler) -> Handler:
    """Run ``handler(view, request, …)`` in one transaction, and once per ``Idempotency-Key``.

    The same key with the same path, query and body gets the stored answer with ``Idempotent-Replayed: true``; another
    body 422; a first call that is still running 409. Without the header it simply runs. The view must raise for
    failures (an answer that it returns is stored). Keys are per principal: nobody can replay another's answer.
    """

    @wraps(handler)
    def once(view: Any, request: Request, *args: Any, **kwargs: Any) -> Response:
        def effect() -> Response:
            return handler(view, request, *args, **kwargs)

        call = _call_of(request)
        if call is None:
            with transaction.atomic():
                return effect()
        return _response(idempotent_run(**call, effect=lambda: _answer(effect())))

    return once


def idempotent_prepared(handler: Callable[..., Callable[[], Response]]) -> Handler:
    """Like ``@idempotent`` for ``handler(view, request, …)`` that reads something slow and returns its effect.

    The handler runs outside any transaction, what it returns in one, together with the stored answer:

        @idempotent_prepared
        def post(self, request):
            asked = body_of(request, Body)
            artifact = read_artifact(asked["path"])                       # minutes
            return lambda: Response(show(register(artifact=artifact)))    # rows

    Killed in between, nothing has happened and the key is free again after a lease (services/idempotency.py).
    """

    @wraps(handler)
    def once(view: Any, request: Request, *args: Any, **kwargs: Any) -> Response:
        def prepare() -> Callable[[], Answer]:
            effect = handler(view, request, *args, **kwargs)
            return lambda: _answer(effect())

        call = _call_of(request)
        if call is None:
            effect = handler(view, request, *args, **kwargs)
            with transaction.atomic():
                return effect()
        return _response(idempotent_run(**call, prepare=prepare))

    return once


class IdempotentPost:
    """Mixin for an ``APIView``: every ``post`` of a subclass is idempotent. Name it before APIView."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "post" in cls.__dict__:
            cls.post = idempotent(cls.__dict__["post"])  # type: ignore[attr-defined]


def _call_of(request: Request) -> dict[str, Any] | None:
    """What names one call, None without a key."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    actor = request.actor  # type: ignore[attr-defined]
    return {
        "principal": f"{actor.kind}:{actor.id}",
        "route": f"{request.method} {request.path}",
        "key": key,
        "request_body": {"query": dict(sorted(request.query_params.lists())), "body": request.data},
    }


def _response(answer: Answer) -> Response:
    response = Response(answer.body, status=answer.status, headers=answer.headers)
    if answer.is_replayed:
        response["Idempotent-Replayed"] = "true"
    return response


def _answer(response: Response) -> Answer:
    """What goes over the wire, as data: the first answer and its replays are the same bytes."""
    body = json.loads(JSONRenderer().render(response.data)) if response.data is not None else None
    headers = {name: response[name] for name in _KEPT_HEADERS if name in response}
    return Answer(response.status_code, body, headers)
