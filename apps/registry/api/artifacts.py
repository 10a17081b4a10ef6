"""The MLflow artifact routes: files of verified versions by digest (read), and uploads (read and write).

    GET  …/mlflow-artifacts/artifacts?path=<digest>[/folder]      {"files": [{"path", "is_dir", "file_size"}]}
    GET  …/mlflow-artifacts/artifacts/<digest>/<path>             the bytes, compared with their hash on the way
    the same with uploads/<name> for <digest>; PUT and DELETE there only

Bytes pass through in pieces, both ways. Errors are the protocol's own: ``{"error_code", "message"}``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, BinaryIO, cast

import structlog
from asgiref.sync import sync_to_async
from django.db.utils import Error as DatabaseError
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.views.decorators.csrf import csrf_exempt

from apps.accounts.domain.doors import PUBLIC
from apps.accounts.services.access import access_require
from apps.kernel.actor import Actor
from apps.kernel.errors import DomainError, Forbidden, NotFound
from apps.registry.api.mlflow.door import actor_behind
from apps.registry.api.mlflow.faults import fault_answer, fault_of
from apps.registry.domain.archives import path_problem
from apps.registry.domain.manifest import Entry, hex_of
from apps.registry.domain.words import Trust
from apps.registry.models import ModelVersion
from apps.registry.selectors import readable_q
from apps.registry.services.ingest import UPLOADS, upload_file, upload_listing, upload_put, upload_remove
from apps.registry.services.ingest_store import artifact_chunks, artifact_store, artifact_tree

log = structlog.get_logger(__name__)

READ, WRITE = "model.read", "model.register"
Handler = Callable[[Actor, HttpRequest, str], HttpResponseBase]


class Pieces(StreamingHttpResponse):
    """A stream that stays one in an asynchronous server, where Django would gather a plain iterator in memory first."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces = iter(cast("Iterator[bytes]", self.streaming_content))

        def following() -> bytes:
            return next(pieces, b"")

        while piece := await sync_to_async(following, thread_sensitive=False)():
            yield piece


@csrf_exempt
def artifacts(request: HttpRequest, place: str = "", **_: str) -> HttpResponseBase:
    """Any call. Nothing but an API key opens it, and each method names its action."""
    found = _METHODS.get(request.method or "")
    try:
        said, address = request.headers.get("Authorization", ""), request.META.get("REMOTE_ADDR", "")
        actor = actor_behind(said, getattr(request, "request_id", ""), address)
        if found is None:
            raise NotFound("endpoint_unknown", f"{request.method} is not answered here.")
        action, handler = found
        access_require(actor, action)
        return handler(actor, request, place.strip("/"))
    except DomainError as error:
        status, content = fault_of(error)
    except DatabaseError as error:
        log.warning("artifact_call_failed", error=type(error).__name__)
        status, content = fault_answer("TEMPORARILY_UNAVAILABLE", "The database cannot be used now; try again.")
    response = HttpResponse(content, status=status, content_type="application/json")
    if status == 401:
        response["WWW-Authenticate"] = 'Bearer realm="pilothouse"'
    return response


artifacts.action_required = PUBLIC  # type: ignore[attr-defined]


def _get(actor: Actor, request: HttpRequest, place: str) -> HttpResponseBase:
    if not place:
        return _listing(actor, request.GET.get("path", "").strip("/"))
    root, path = _split(place)
    if root == UPLOADS:
        area, path = _split(path)
        entry = upload_file(actor=actor, area=area, path=path)
        return _stream(entry, artifact_store().blob_read(entry.sha256, entry.size))
    _check_served(actor, root)
    return _stream(*artifact_chunks(root, path))


def _listing(actor: Actor, place: str) -> HttpResponse:
    root, path = _split(place)
    if root == UPLOADS:
        area, path = _split(path)
        found = upload_listing(actor=actor, area=area, folder=path)
    else:
        _check_served(actor, root)
        found = artifact_tree(root).listing(path) or []
        if path and artifact_tree(root).file(path) is not None:
            found = []  # what the client expects of a file
    files: list[dict[str, Any]] = [
        {"path": name, "is_dir": True} if is_dir else {"path": name, "is_dir": False, "file_size": size}
        for name, is_dir, size in found
    ]
    return JsonResponse({"files": files})


def _put(actor: Actor, request: HttpRequest, place: str) -> HttpResponse:
    root, rest = _split(place)
    if root != UPLOADS:
        raise Forbidden(
            "artifact_immutable", "Registered files never change; upload to uploads/<name>/… and register that."
        )
    area, path = _split(rest)
    upload_put(actor=actor, area=area, path=path, stream=cast(BinaryIO, request))
    return JsonResponse({})


def _delete(actor: Actor, request: HttpRequest, place: str) -> HttpResponse:
    root, rest = _split(place)
    if root != UPLOADS:
        raise Forbidden("artifact_immutable", "Registered files are never deleted here.")
    area, path = _split(rest)
    upload_remove(actor=actor, area=area, path=path)
    return JsonResponse({})


_METHODS: dict[str, tuple[str, Handler]] = {
    "GET": (READ, _get),
    "HEAD": (READ, _get),
    "PUT": (WRITE, _put),
    "DELETE": (WRITE, _delete),
}


def _split(place: str) -> tuple[str, str]:
    """The first part and the rest. Raises NotFound for a path that leads anywhere else."""
    if place and path_problem(place):
        raise NotFound("artifact_path", f"The path {path_problem(place)}.")
    first, _, rest = place.partition("/")
    return first, rest


def _check_served(actor: Actor, digest: str) -> None:
    """Only bytes of a living, verified version that the actor may read. Raises NotFound."""
    name = hex_of(digest)
    seen = ModelVersion.objects.filter(readable_q(actor, "model__team_id"))
    living = seen.filter(artifact_digest=f"sha256:{name}", model__deleted_at=None)
    if name is None or not living.filter(trust=Trust.VERIFIED).exists():
        raise NotFound("artifact_unknown", f"No verified version has the artifact {digest[:80]}.")


def _stream(entry: Entry, pieces: Iterator[bytes]) -> HttpResponseBase:
    response = Pieces(pieces, content_type="application/octet-stream")
    response["Content-Length"] = str(entry.size)
    response["ETag"] = f'"{entry.sha256}"'
    # Never shown by a browser as a page of ours: the content is anybody's.
    response["Content-Disposition"] = "attachment"
    response["Cache-Control"] = "private, no-transform"
    return response
