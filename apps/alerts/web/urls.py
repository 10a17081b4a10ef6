"""Webhooks, a tab of Settings."""

from django.urls import path

from apps.alerts.web import messages, webhooks

app_name = "alerts"
urlpatterns = [
    path("", webhooks.webhooks, name="list"),
    path("new/", webhooks.webhook_new, name="new"),
    path("<str:webhook_id>/", webhooks.webhook, name="webhook"),
    path("<str:webhook_id>/edit/", webhooks.webhook_edit, name="edit"),
    path("<str:webhook_id>/switch", webhooks.webhook_switch, name="switch"),
    path("<str:webhook_id>/rotate", webhooks.webhook_rotate, name="rotate"),
    path("<str:webhook_id>/delete", webhooks.webhook_delete, name="delete"),
    path("<str:webhook_id>/messages/", messages.log, name="messages"),
    path("<str:webhook_id>/test", messages.test, name="test"),
    path("<str:webhook_id>/resend", messages.resend_all, name="resend_all"),
    path("<str:webhook_id>/messages/<str:message_id>/resend", messages.resend, name="resend"),
]
