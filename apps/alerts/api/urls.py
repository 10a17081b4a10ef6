"""The alerts' part of /api/v1."""

from __future__ import annotations

from django.urls import path

from apps.alerts.api import views

urlpatterns = [
    path("webhooks", views.WebhooksView.as_view()),
    path("webhooks/<name:webhook_id>", views.WebhookView.as_view()),
    path("webhooks/<name:webhook_id>/rotate", views.RotateView.as_view()),
    path("webhooks/<name:webhook_id>/test", views.TestView.as_view()),
    path("webhooks/<name:webhook_id>/deliveries", views.DeliveriesView.as_view()),
    path("webhooks/<name:webhook_id>/deliveries/<name:delivery_id>/redeliver", views.RedeliverView.as_view()),
]
