"""The base of every view under /api/v1."""

from __future__ import annotations

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.kernel.rest.documents import query_declared
from apps.kernel.rest.json_body import StrictJsonParser
from apps.kernel.rest.paging import link_of
from apps.kernel.rest.reading import query_refuse_unknown
from apps.kernel.rest.tags import not_modified


class ApiView(APIView):
    """Each declares ``action_required`` (accounts, default deny), and each handler what it takes, by ``@operation``:
    a query parameter that it does not name is refused, whatever the method."""

    parser_classes = (StrictJsonParser,)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        handler = getattr(self, (request.method or "").lower(), None)
        is_documented, query = query_declared(handler)
        if is_documented:
            query_refuse_unknown(request, query)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        """304 where the caller has it already; the next page of a list in ``Link``."""
        if isinstance(response, Response):
            response = not_modified(request, response) or response
            link = link_of(request, response.data)
            if link:
                response["Link"] = link
        return super().finalize_response(request, response, *args, **kwargs)
