"""The telemetry's part of /api/v1."""

from __future__ import annotations

from django.urls import path

from apps.telemetry.api import views

urlpatterns = [path("endpoints/<name:endpoint_name>/windows", views.WindowsView.as_view())]
