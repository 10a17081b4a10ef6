"""The objectives' part of /api/v1."""

from __future__ import annotations

from django.urls import path

from apps.slo.api import views

urlpatterns = [
    path("objective-profiles", views.ProfilesView.as_view()),
    path("endpoints/<name:endpoint_name>/objectives", views.EndpointObjectivesView.as_view()),
    path("endpoints/<name:endpoint_name>/objectives/replay", views.ReplayNewView.as_view()),
    path("endpoints/<name:endpoint_name>/burns", views.BurnsView.as_view()),
    path("endpoints/<name:endpoint_name>/prometheus-rules", views.RulesView.as_view()),
    path("objectives/<name:objective_id>", views.ObjectiveView.as_view()),
    path("objectives/<name:objective_id>/replay", views.ReplayView.as_view()),
]
