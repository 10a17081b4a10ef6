"""The targets' part of /api/v1."""

from __future__ import annotations

from django.urls import path

from apps.targets.api import changes, credentials, images, preflight, views

urlpatterns = [
    path("targets", views.TargetsView.as_view()),
    path("targets/<name:target_name>", changes.TargetView.as_view()),
    path("targets/<name:target_name>/change", changes.TargetChangeView.as_view()),
    path("targets/<name:target_name>/probe", views.ProbeView.as_view()),
    path("targets/<name:target_name>/credentials", credentials.CredentialsView.as_view()),
    path("targets/<name:target_name>/preflight", preflight.PreflightView.as_view()),
    path("freezes", views.FreezesView.as_view()),
    path("freezes/<name:freeze_id>", views.FreezeView.as_view()),
    path("models/<str:model_name>/versions/<str:version>/image", images.ImageView.as_view()),
    path("models/<str:model_name>/versions/<str:version>/image/context", images.ImageContextView.as_view()),
    path("models/<str:model_name>/versions/<str:version>/image/builds", images.ImageBuildsView.as_view()),
    path("image-builds/<name:build_id>", images.ImageBuildView.as_view()),
    path("image-builds/<name:build_id>/stop", images.ImageBuildStopView.as_view()),
    path("endpoints/<name:endpoint_name>/variants/<name:variant>/logs", views.LogsView.as_view()),
]
