"""The REST API, version 1: the apps' routes, its own description, and 404 as problem details for the rest."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from django.http import Http404, HttpResponse
from django.templatetags.static import static
from django.urls import URLPattern, URLResolver, include, path, re_path
from django.utils.html import format_html
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

import apps.accounts.api.schema  # noqa: F401  registers how the documentation names keys and sessions
from apps.accounts.domain.doors import PUBLIC
from apps.accounts.web_access import declares
from apps.kernel.rest import ApiView
from controlplane.problems_page import problems_page

UI = "drf_spectacular_sidecar/swagger-ui-dist"
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>API of Pilothouse</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="{}"><link rel="stylesheet" href="{}"></head>
<body><div id="api" data-schema="/api/v1/openapi.json"></div>
<script src="{}"></script><script src="/api/v1/docs.js"></script></body></html>
"""
# A file of its own, because the Content-Security-Policy allows no inline script. Swagger UI sends a session's unsafe
# calls with the CSRF token of the page's cookie.
SCRIPT = """"use strict";
const place = document.getElementById("api");
const csrf = () => (document.cookie.match(/(?:^|; )csrftoken=([^;]*)/) || [])[1] || "";
const system = matchMedia("(prefers-color-scheme: dark)");
const show = () => {
  const chosen = (document.cookie.match(/(?:^|; )theme=(light|dark)/) || [])[1];
  document.documentElement.classList.toggle("dark-mode", chosen ? chosen === "dark" : system.matches);
};
system.addEventListener("change", show);
show();
window.SwaggerUIBundle({
  url: place.dataset.schema, domNode: place, deepLinking: true, docExpansion: "none", filter: true,
  defaultModelsExpandDepth: 0,
  requestInterceptor: (call) => {
    if (!["GET", "HEAD"].includes((call.method || "GET").toUpperCase())) call.headers["X-CSRFToken"] = csrf();
    return call;
  },
});
"""


@lru_cache(maxsize=1)
def openapi() -> dict[str, Any]:
    """The OpenAPI document; the same for everybody, made once per process."""
    return dict(SchemaGenerator().get_schema(request=None, public=True))


@extend_schema(exclude=True)
class OpenApiView(ApiView):
    action_required = PUBLIC

    def get(self, request: Request) -> Response:
        return Response(openapi(), headers={"Cache-Control": "max-age=60"})


@extend_schema(exclude=True)
class UnknownView(ApiView):
    """Whatever no route knows."""

    action_required = PUBLIC

    def get(self, request: Request) -> Response:
        raise Http404

    post = put = patch = delete = get
    options = get  # type: ignore[assignment]


@declares(PUBLIC)
def docs(request: Any) -> HttpResponse:
    """The documentation as a page."""
    files = [static("favicon.svg"), static(f"{UI}/swagger-ui.css"), static(f"{UI}/swagger-ui-bundle.js")]
    return HttpResponse(format_html(PAGE, *files))


@declares(PUBLIC)
def docs_script(request: Any) -> HttpResponse:
    """What starts the documentation's page."""
    return HttpResponse(SCRIPT, content_type="text/javascript; charset=utf-8")


urlpatterns: list[URLPattern | URLResolver] = [
    path("openapi.json", OpenApiView.as_view()),
    path("docs", docs, name="api_docs"),
    path("docs.js", docs_script),
    path("problems", problems_page, name="api_problems"),
    path("", include("apps.audit.api.urls")),
    path("", include("apps.accounts.api.urls")),
    path("", include("apps.reviews.api.urls")),
    path("", include("apps.alerts.api.urls")),
    path("", include("apps.registry.api.urls")),
    path("", include("apps.targets.api.urls")),
    path("", include("apps.telemetry.api.urls")),
    path("", include("apps.slo.api.urls")),
    path("", include("apps.experiments.api.urls")),
    path("", include("apps.rollouts.api.urls")),
    re_path(r"", UnknownView.as_view()),
]
