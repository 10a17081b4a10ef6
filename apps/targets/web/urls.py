"""Endpoints."""

from django.urls import path

from apps.targets.web import follow, views

app_name = "targets"
urlpatterns = [
    path("<slug:name>/", views.endpoint, name="endpoint"),
    path("<slug:name>/follows/", follow.follow, name="follow"),
    path("<slug:name>/health/", views.health, name="health"),
    path("<slug:name>/variants/", views.variants, name="variants"),
]
