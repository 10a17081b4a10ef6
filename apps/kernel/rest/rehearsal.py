"""``?dry_run=true``: everything a change would do and refuse, and then nothing has happened."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.db import transaction
from rest_framework.request import Request
from rest_framework.response import Response

from apps.kernel.rest.fields import StrictBoolean, StrictSerializer
from apps.kernel.rest.reading import query_of

Handler = Callable[..., Response]


class DryRunQuery(StrictSerializer):
    """For an operation that can be rehearsed; its documentation names this as ``query``."""

    dry_run = StrictBoolean(default=False, help_text="Check everything and answer as if; nothing is stored.")


def rehearsable(handler: Handler) -> Handler:
    """With ``dry_run=true`` the handler runs in a transaction that is rolled back; 200 with ``Dry-Run: true``.

    For handlers whose only effects are rows (the outbox included). An ``Idempotency-Key`` is not looked at then: there
    is no effect to repeat. Stand between ``@operation`` and ``@idempotent``.
    """

    @wraps(handler)
    def either(view: Any, request: Request, *args: Any, **kwargs: Any) -> Response:
        if not query_of(request, DryRunQuery)["dry_run"]:
            return handler(view, request, *args, **kwargs)
        with transaction.atomic():
            answer: Response = inspect.unwrap(handler)(view, request, *args, **kwargs)
            transaction.set_rollback(True)
        return Response(answer.data, status=200, headers={"Dry-Run": "true"})

    return either
