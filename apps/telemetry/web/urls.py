"""How requests turned out, and what is kept of them: pages below an endpoint's own."""

from django.urls import path

from apps.telemetry.web import kept

app_name = "telemetry"
urlpatterns = [
    path("<slug:name>/labels/", kept.labels, name="labels"),
    path("<slug:name>/data/", kept.data, name="data"),
]
