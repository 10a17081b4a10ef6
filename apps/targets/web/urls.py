"""Endpoints."""

from django.urls import path

from apps.targets.web import follow, images, views

app_name = "targets"
urlpatterns = [
    path("-/images/<str:name>/<str:reference>/", images.version_image, name="version_image"),
    path("-/images/<str:name>/<str:reference>/record/", images.record, name="image_record"),
    path("-/images/<str:name>/<str:reference>/build/", images.build, name="image_build"),
    path("-/images/<str:name>/<str:reference>/stop/<str:build_id>/", images.stop, name="image_build_stop"),
    path("<slug:name>/", views.endpoint, name="endpoint"),
    path("<slug:name>/follows/", follow.follow, name="follow"),
    path("<slug:name>/health/", views.health, name="health"),
    path("<slug:name>/variants/", views.variants, name="variants"),
]
