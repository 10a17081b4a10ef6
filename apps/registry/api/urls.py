"""The registry's part of /api/v1."""

from __future__ import annotations

from django.urls import path

from apps.registry.api import views

urlpatterns = [
    path("models", views.ModelsView.as_view()),
    path("models/<name:model_name>", views.ModelView.as_view()),
    path("models/<name:model_name>/compare", views.CompareView.as_view()),
    path("models/<name:model_name>/versions", views.VersionsView.as_view()),
    path("models/<name:model_name>/versions/<name:version>", views.VersionView.as_view()),
    path("models/<name:model_name>/aliases/<name:alias>", views.AliasView.as_view()),
]
