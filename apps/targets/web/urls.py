"""Endpoints."""

from django.urls import path

from apps.targets.web import views

app_name = "targets"
urlpatterns = [
    path("<slug:name>/", views.endpoint, name="endpoint"),
    path("<slug:name>/health/", views.health, name="health"),
    path("<slug:name>/variants/", views.variants, name="variants"),
]
