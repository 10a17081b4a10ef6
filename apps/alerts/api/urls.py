"""The alerts' part of /api/v1."""

from __future__ import annotations

from django.urls import path

from apps.alerts.api import channel_views, incident_views, views

urlpatterns = [
    path("alerts", incident_views.AlertsView.as_view()),
    path("alerts/<name:alert_id>", incident_views.AlertView.as_view()),
    path("alerts/<name:alert_id>/acknowledge", incident_views.AcknowledgeView.as_view()),
    path("alerts/<name:alert_id>/silence", incident_views.SilenceView.as_view()),
    path("alerts/<name:alert_id>/resolve", incident_views.ResolveView.as_view()),
    path("alerts/<name:alert_id>/notices", incident_views.AlertNoticesView.as_view()),
    path("alert-channels", channel_views.ChannelsView.as_view()),
    path("alert-channels/<name:channel_id>", channel_views.ChannelView.as_view()),
    path("alert-channels/<name:channel_id>/test", channel_views.ChannelTestView.as_view()),
    path("alert-channels/<name:channel_id>/notices", channel_views.ChannelNoticesView.as_view()),
    path("alert-channels/<name:channel_id>/notices/<name:notice_id>/resend", channel_views.ResendView.as_view()),
    path("alert-routes", channel_views.RoutesView.as_view()),
    path("alert-routes/<name:route_id>", channel_views.RouteView.as_view()),
    path("alert-receivers", channel_views.ReceiversView.as_view()),
    path("alert-receivers/<name:receiver_id>", channel_views.ReceiverView.as_view()),
    path("alert-receivers/<name:receiver_id>/rotate", channel_views.ReceiverRotateView.as_view()),
    path("alert-receivers/<name:receiver_id>/alertmanager", channel_views.AlertmanagerView.as_view()),
    path("webhooks", views.WebhooksView.as_view()),
    path("webhooks/<name:webhook_id>", views.WebhookView.as_view()),
    path("webhooks/<name:webhook_id>/rotate", views.RotateView.as_view()),
    path("webhooks/<name:webhook_id>/test", views.TestView.as_view()),
    path("webhooks/<name:webhook_id>/deliveries", views.DeliveriesView.as_view()),
    path("webhooks/<name:webhook_id>/deliveries/<name:delivery_id>/redeliver", views.RedeliverView.as_view()),
]
