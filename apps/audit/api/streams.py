"""The export as an HTTP answer that is never whole in memory, under WSGI-like tests and under ASGI."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse

from apps.audit.selectors import Filters
from apps.audit.services.export import export_batch, export_begin, export_head, export_lines, export_tail
from apps.kernel.actor import Actor


def export_answer(request: HttpRequest, actor: Actor, filters: Filters) -> StreamingHttpResponse:
    """Begins an export (recorded) and streams it."""
    asked, up_to = export_begin(actor=actor, filters=filters)
    # Django reads a synchronous iterator to its end before it sends a byte under ASGI, and warns about the other kind
    # everywhere else.
    lines: Any = _lines(asked, up_to) if isinstance(request, ASGIRequest) else export_lines(asked, up_to)
    name = f"audit-{up_to}.jsonl" if filters.is_empty else f"audit-part-{up_to}.jsonl"
    return StreamingHttpResponse(
        lines,
        content_type="application/x-ndjson",
        headers={"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"},
    )


async def _lines(filters: Filters, up_to: int) -> AsyncIterator[bytes]:
    yield await sync_to_async(lambda: b"".join(export_head(filters, up_to)))()
    after, total = 0, 0
    while True:
        lines, after, count = await sync_to_async(export_batch)(filters, after, up_to)
        if not count:
            break
        total += count
        yield lines
    yield export_tail(total, after)
