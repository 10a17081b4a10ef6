"""The audit log's part of /api/v1."""

from __future__ import annotations

from django.urls import path

from apps.audit.api import views

urlpatterns = [
    path("audit", views.EventsView.as_view()),
    path("audit/checkpoints", views.CheckpointsView.as_view()),
    path("audit/keys", views.KeysView.as_view()),
    path("audit/verify", views.ChainView.as_view()),
    path("audit/export", views.ExportView.as_view()),
    path("audit/<name:seq>", views.EventView.as_view()),
]
