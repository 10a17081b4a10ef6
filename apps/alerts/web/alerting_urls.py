"""Where alerts go and come from, a tab of Settings."""

from django.urls import path

from apps.alerts.web import alerting, channels

app_name = "alerting"
urlpatterns = [
    path("", alerting.alerting, name="list"),
    path("new/", channels.channel_new, name="new"),
    path("routes/add", alerting.route_add, name="route_add"),
    path("routes/<str:route_id>/remove", alerting.route_remove, name="route_remove"),
    path("receivers/add", alerting.receiver_add, name="receiver_add"),
    path("receivers/<str:receiver_id>/change", alerting.receiver_change, name="receiver_change"),
    path("receivers/<str:receiver_id>/rotate", alerting.receiver_renew, name="receiver_rotate"),
    path("receivers/<str:receiver_id>/remove", alerting.receiver_remove, name="receiver_remove"),
    path("<str:channel_id>/", channels.channel, name="channel"),
    path("<str:channel_id>/messages/", channels.log, name="messages"),
    path("<str:channel_id>/change", channels.change, name="change"),
    path("<str:channel_id>/test", channels.test, name="test"),
    path("<str:channel_id>/remove", channels.remove, name="remove"),
    path("<str:channel_id>/messages/<str:notice_id>/resend", channels.resend, name="resend"),
]
