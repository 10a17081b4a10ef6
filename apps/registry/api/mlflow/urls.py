"""The MLflow protocol, at the root and below a prefix of up to three parts."""

from __future__ import annotations

from django.urls import re_path

from apps.registry.api.artifacts_urls import proxy
from apps.registry.api.mlflow.views import mlflow

urlpatterns = [
    re_path(r"^(?:[\w.\-]+/){0,3}?(?:ajax-)?api/2\.0/mlflow/(?P<call>.*)$", mlflow),
    re_path(r"^(?:[\w.\-]+/){0,3}?(?:ajax-)?api/3\.0/mlflow/server-info$", mlflow),
    *proxy,
]
