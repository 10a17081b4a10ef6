"""Settings: the targets, and the windows in which nothing moves forward."""

from django.urls import path

from apps.targets.web import connect, edit, freezes, targets

app_name = "settings"
urlpatterns = [
    path("", targets.entrance, name="entrance"),
    path("targets/", targets.targets, name="targets"),
    path("targets/connect/", connect.connect, name="connect"),
    path("targets/<slug:target>/edit/", edit.edit, name="edit"),
    path("targets/<slug:name>/probe", targets.probe, name="probe"),
    path("targets/<slug:name>/credentials", targets.credentials, name="credentials"),
    path("freezes/", freezes.freezes, name="freezes"),
    path("freezes/<str:freeze_id>/lift", freezes.lift, name="lift"),
]
