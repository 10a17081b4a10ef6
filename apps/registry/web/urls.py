"""Models and their versions."""

from django.urls import path

from apps.registry.web import views

app_name = "registry"
urlpatterns = [
    path("", views.models, name="models"),
    path("<str:name>/", views.model, name="model"),
    path("<str:name>/versions/<str:reference>/", views.version, name="version"),
]
