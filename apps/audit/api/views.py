"""The audit log over HTTP. Accounts enforces what each view declares: this app knows of no account."""

from __future__ import annotations

from typing import cast

from drf_spectacular.types import OpenApiTypes
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from apps.audit.api.shapes import (
    ChainSchema,
    CheckpointSchema,
    EventQuery,
    EventSchema,
    FilterQuery,
    KeysSchema,
    chain_show,
    checkpoint_show,
    filters_of,
)
from apps.audit.api.streams import export_answer
from apps.audit.selectors import (
    chain_state,
    checkpoint_list,
    event_document,
    event_get,
    event_list,
    key_document,
    key_list,
    last_seq,
)
from apps.kernel.errors import NotFound
from apps.kernel.rest import ApiView, PageQuery, actor_of, operation, page_of, page_schema, query_of

READ, EXPORT, PUBLIC = "audit.read", "audit.export", "public"


class EventsView(ApiView):
    action_required = READ

    @operation(
        "audit_list",
        "Audit entries, newest first",
        tag="audit",
        query=EventQuery,
        answers={200: page_schema("AuditEvent", EventSchema)},
    )
    def get(self, request: Request) -> Response:
        asked = query_of(request, EventQuery)
        page = {name: asked[name] for name in ("limit", "cursor") if name in asked}
        return Response(page_of(event_list(filters_of(asked)), key="-seq", show=event_document, **page))


class EventView(ApiView):
    action_required = READ

    @operation(
        "audit_get", "One audit entry", tag="audit", path={"seq": "The entry's number."}, answers={200: EventSchema}
    )
    def get(self, request: Request, seq: str) -> Response:
        if not (seq.isascii() and seq.isdigit() and len(seq) < 19):
            raise NotFound("event_unknown", "Audit entries are named by their number.")
        return Response(event_document(event_get(int(seq))))


class CheckpointsView(ApiView):
    action_required = READ

    @operation(
        "audit_checkpoints",
        "Signed checkpoints, newest first, and whether the sink outside has them",
        tag="audit",
        query=PageQuery,
        answers={200: page_schema("AuditCheckpoint", CheckpointSchema)},
    )
    def get(self, request: Request) -> Response:
        asked = query_of(request, PageQuery)
        return Response(page_of(checkpoint_list(), key="-number", show=checkpoint_show, **asked))


class KeysView(ApiView):
    action_required = PUBLIC

    @operation(
        "audit_keys",
        "The public keys that checkpoints were signed with",
        tag="audit",
        description="Open to everybody: a public key is there to be known. Keep a copy outside.",
        answers={200: KeysSchema},
    )
    def get(self, request: Request) -> Response:
        return Response({"keys": [key_document(key) for key in key_list()]})


class ChainView(ApiView):
    action_required = READ

    @operation(
        "audit_verify",
        "How far the log was read back, and the first entry that is wrong",
        tag="audit",
        description="The reading goes on in the background, a bounded piece at a time; this call reads its result.",
        answers={200: ChainSchema},
    )
    def get(self, request: Request) -> Response:
        return Response(chain_show(chain_state(), last_seq(), checkpoint_list().first()))


class LinesRenderer(BaseRenderer):
    """Only announces the media type: the answer is a stream."""

    media_type = "application/x-ndjson"
    format = "jsonl"


class ExportView(ApiView):
    action_required = EXPORT
    renderer_classes = (JSONRenderer, LinesRenderer)

    @operation(
        "audit_export",
        "The log as JSON lines, oldest first",
        tag="audit",
        description="Without filters it carries everything `pilothouse audit verify` needs. Each export is an entry.",
        query=FilterQuery,
        answers={(200, "application/x-ndjson"): OpenApiTypes.BINARY},  # type: ignore[dict-item]
    )
    def get(self, request: Request) -> Response:
        answer = export_answer(request._request, actor_of(request), filters_of(query_of(request, FilterQuery)))
        return cast(Response, answer)  # REST framework takes any HttpResponse
