"""Routes of files: ``proxy`` at the root (and below a prefix), ``v1`` below /api/v1."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path, re_path, register_converter

from apps.registry.api import artifacts_v1 as views
from apps.registry.api.artifacts import artifacts


class WordConverter:
    """What the MLflow protocol lets models and aliases be called: spaces and every alphabet, no slash, no NUL."""

    regex = r"[^/\x00]{1,256}"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


register_converter(WordConverter, "word")
_PREFIX = r"^(?:[\w.\-]+/){0,3}?(?:ajax-)?api/2\.0/mlflow-artifacts/artifacts"
proxy: list[URLPattern | URLResolver] = [
    re_path(rf"{_PREFIX}$", artifacts),
    re_path(rf"{_PREFIX}/(?P<place>.*)$", artifacts),
]
v1: list[URLPattern | URLResolver] = [
    path("models/<word:model_name>/versions/<word:version>/ingest", views.IngestView.as_view()),
    path("format-rules", views.FormatRulesView.as_view()),
    path("imports", views.ImportsView.as_view()),
    path("imports/<name:import_id>", views.ImportView.as_view()),
    path("imports/<name:import_id>/run", views.ImportRunView.as_view()),
    path("imports/<name:import_id>/stop", views.ImportStopView.as_view()),
]
urlpatterns = proxy
