"""The protocol as a Django view, for servers that do not go through ``asgi.py``."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from apps.accounts.domain.doors import PUBLIC
from apps.registry.api.mlflow.asked import MAX_BODY
from apps.registry.api.mlflow.dispatch import Call, answer
from apps.registry.api.mlflow.faults import fault_answer


@csrf_exempt
def mlflow(request: HttpRequest, **_: str) -> HttpResponse:
    """Any call. The dispatcher has a right for each one; here nothing is decided."""
    body = request.read(MAX_BODY + 1)
    if len(body) > MAX_BODY:
        status, content = fault_answer("INVALID_PARAMETER_VALUE", f"A request has at most {MAX_BODY:,} bytes.")
    else:
        status, content = answer(
            Call(
                method=request.method or "",
                path=request.path_info,
                query=request.META.get("QUERY_STRING", "").encode("ascii", "replace"),
                body=body,
                authorization=request.headers.get("Authorization", ""),
                request_id=getattr(request, "request_id", ""),
                address=request.META.get("REMOTE_ADDR", ""),
            )
        )
    response = HttpResponse(content, status=status, content_type="application/json")
    if status == 401:
        response["WWW-Authenticate"] = 'Bearer realm="pilothouse"'
    return response


mlflow.action_required = PUBLIC  # type: ignore[attr-defined]
