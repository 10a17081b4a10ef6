"""Experiments: pages, fragments, the design form, commands."""

from django.urls import path

from apps.experiments.web import commands, design, pages

app_name = "experiments"
urlpatterns = [
    path("", pages.experiments, name="list"),
    path("_rows/", pages.rows, name="rows"),
    path("new/", design.new, name="new"),
    path("new/size/", design.size, name="size"),
    path("<str:experiment_id>/", pages.experiment, name="detail"),
    path("<str:experiment_id>/head/", pages.head, name="head"),
    path("<str:experiment_id>/result/", pages.result, name="result"),
    path("<str:experiment_id>/looks/", pages.looks, name="looks"),
    path("<str:experiment_id>/actions/", pages.actions, name="actions"),
    path("<str:experiment_id>/design/", design.edit, name="edit"),
    path("<str:experiment_id>/do/<str:command>/", commands.command, name="command"),
]
