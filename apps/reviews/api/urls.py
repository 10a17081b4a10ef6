"""The reviews' part of /api/v1."""

from __future__ import annotations

from django.urls import path

from apps.reviews.api import views

urlpatterns = [
    path("reviews", views.ReviewsView.as_view()),
    path("reviews/<name:review_id>", views.ReviewView.as_view()),
    path("reviews/<name:review_id>/decisions", views.DecisionsView.as_view()),
    path("reviews/<name:review_id>/withdraw", views.WithdrawView.as_view()),
]
