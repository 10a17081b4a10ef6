"""``@idempotent`` on a handler of an API view, for POSTs that make something."""

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
        key = request.headers.get("Idempotency-Key")
        if key is None:
            with transaction.atomic():
                return handler(view, request, *args, **kwargs)
        actor = request.actor  # type: ignore[attr-defined]
        answer = idempotent_run(
            principal=f"{actor.kind}:{actor.id}",
            route=f"{request.method} {request.path}",
            key=key,
            request_body={"query": dict(sorted(request.query_params.lists())), "body": request.data},
            effect=lambda: _answer(handler(view, request, *args, **kwargs)),
        )
        response = Response(answer.body, status=answer.status, headers=answer.headers)
        if answer.is_replayed:
            response["Idempotent-Replayed"] = "true"
        return response

    return once


class IdempotentPost:
    """Mixin for an ``APIView``: every ``post`` of a subclass is idempotent. Name it before APIView."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "post" in cls.__dict__:
            cls.post = idempotent(cls.__dict__["post"])  # type: ignore[attr-defined]


def _answer(response: Response) -> Answer:
    """What goes over the wire, as data: the first answer and its replays are the same bytes."""
    body = json.loads(JSONRenderer().render(response.data)) if response.data is not None else None
    headers = {name: response[name] for name in _KEPT_HEADERS if name in response}
    return Answer(response.status_code, body, headers)
