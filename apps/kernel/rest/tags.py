"""Entity tags (RFC 9110, 8.8): what a caller has is still right (304), or what a caller saw has moved on (412).

A tag is ``"<revision>.<hash>"``. The revision alone would be no strong tag: why a rollout waits, or what a target was
seen to do, changes without one, and a 304 would hide it. A change asks for the revision only: ``If-Match: "17"`` and
the whole tag mean the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from django.utils.http import parse_etags
from rest_framework.exceptions import APIException
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

SAFE = frozenset({"GET", "HEAD"})


class PreconditionFailed(APIException):
    """412: somebody changed it since; ``extra`` says where it is now."""

    status_code = 412
    default_code = "stale_revision"

    def __init__(self, revision: int) -> None:
        super().__init__(f"It has changed since you looked: it is at revision {revision} now. Read it again.")
        self.extra = {"revision": revision}


class PreconditionRequired(APIException):
    """428: a change of this must say what it has seen."""

    status_code = 428
    default_code = "if_match_required"

    def __init__(self, revision: int) -> None:
        super().__init__("Say which revision you saw: send If-Match with the ETag of what you read, or * for any.")
        self.extra = {"revision": revision}


def with_etag(data: Mapping[str, Any], revision: int, *, status: int = 200) -> Response:
    """An answer with its strong entity tag."""
    digest = hashlib.sha256(JSONRenderer().render(data)).hexdigest()[:16]
    return Response(data, status=status, headers={"ETag": f'"{revision}.{digest}"'})


def if_match(request: Request, revision: int) -> None:
    """Compare ``If-Match`` with the revision of what is about to change.

    Raises PreconditionRequired without the header and PreconditionFailed when no tag in it is of this revision.
    """
    given = request.headers.get("If-Match")
    if given is None:
        raise PreconditionRequired(revision)
    tags = parse_etags(given)
    # A weak tag never matches here (RFC 9110, 13.1.1); parse_etags keeps its W/.
    if tags != ["*"] and str(revision) not in {tag.strip('"').partition(".")[0] for tag in tags if tag[:1] == '"'}:
        raise PreconditionFailed(revision)


def not_modified(request: Request, response: Response) -> Response | None:
    """304 for a GET whose caller has this very answer already, else None."""
    tag, given = response.get("ETag"), request.headers.get("If-None-Match")
    if request.method not in SAFE or response.status_code != 200 or tag is None or given is None:
        return None
    # Weak comparison: a proxy that compresses makes our tag weak.
    if given.strip() != "*" and tag not in {one.removeprefix("W/") for one in parse_etags(given)}:
        return None
    return Response(status=304, headers={"ETag": tag})
