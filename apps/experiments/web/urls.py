"""Experiments: pages, fragments, the design form, commands."""

from django.urls import path

from apps.experiments.web import commands, design, pages, shadow, studies, take

app_name = "experiments"
urlpatterns = [
    path("", pages.experiments, name="list"),
    path("_rows/", pages.rows, name="rows"),
    path("new/", design.new, name="new"),
    path("new/size/", design.size, name="size"),
    path("new/simulate/", studies.simulate, name="simulate"),
    path("studies/<str:study_id>/", studies.study, name="study"),
    path("shadow/", shadow.shadow, name="shadow"),
    path("shadow/export/", shadow.shadow_export, name="shadow_export"),
    path("<str:experiment_id>/", pages.experiment, name="detail"),
    path("<str:experiment_id>/take/", take.take, name="take"),
    path("<str:experiment_id>/head/", pages.head, name="head"),
    path("<str:experiment_id>/result/", pages.result, name="result"),
    path("<str:experiment_id>/looks/", pages.looks, name="looks"),
    path("<str:experiment_id>/actions/", pages.actions, name="actions"),
    path("<str:experiment_id>/design/", design.edit, name="edit"),
    path("<str:experiment_id>/do/<str:command>/", commands.command, name="command"),
]
