"""Objectives, beside their endpoint."""

from django.urls import path

from apps.slo.web import form, pages

app_name = "slo"
urlpatterns = [
    path("-/objectives/<str:objective_id>/", form.edit, name="edit"),
    path("-/objectives/<str:objective_id>/delete/", pages.delete, name="delete"),
    path("<slug:name>/objectives/", pages.objectives, name="objectives"),
    path("<slug:name>/objectives/new/", form.new, name="new"),
    path("<slug:name>/objectives/burns/", pages.burns, name="burns"),
    path("<slug:name>/objectives/replay/", form.replayed, name="replay"),
    path("<slug:name>/objectives/prometheus/", pages.rules, name="rules"),
]
