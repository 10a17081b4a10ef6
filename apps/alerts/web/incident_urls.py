"""Alerts, a room of the rail."""

from django.urls import path

from apps.alerts.web import incidents

app_name = "incidents"
urlpatterns = [
    path("", incidents.incidents, name="list"),
    path("_rows/", incidents.rows, name="rows"),
    path("of/<str:name>/", incidents.of_subject, name="of_subject"),
    path("<str:incident_id>/", incidents.incident, name="incident"),
    path("<str:incident_id>/head/", incidents.head, name="head"),
    path("<str:incident_id>/history/", incidents.history, name="history"),
    path("<str:incident_id>/actions/", incidents.actions, name="actions"),
    path("<str:incident_id>/do/<str:command>/", incidents.command, name="command"),
]
