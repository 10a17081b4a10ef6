"""The telemetry's part of /api/v1."""

from __future__ import annotations

from django.urls import path

from apps.telemetry.api import sources, views

ENDPOINT = "endpoints/<name:endpoint_name>"

urlpatterns = [
    path(f"{ENDPOINT}/windows", views.WindowsView.as_view()),
    path(f"{ENDPOINT}/telemetry-sources", sources.SendersView.as_view()),
    path(f"{ENDPOINT}/pull-sources", sources.PullSourcesView.as_view()),
    path(f"{ENDPOINT}/pull-sources/<slug:kind>", sources.PullSourceView.as_view()),
    path(f"{ENDPOINT}/inference-policy", sources.PolicyView.as_view()),
    path(f"{ENDPOINT}/inference-files", sources.FilesView.as_view()),
    path(f"{ENDPOINT}/labels", sources.LabelsView.as_view()),
]
