"""The experiments' part of /api/v1."""

from __future__ import annotations

from django.urls import path

from apps.experiments.api import data, shadow, studies, views

urlpatterns = [
    path("experiments", views.ExperimentsView.as_view()),
    path("experiments/size", views.SizeView.as_view()),
    path("experiments/simulate", studies.SimulateView.as_view()),
    path("studies/<name:study_id>", studies.StudyView.as_view()),
    path("experiments/<name:experiment_id>", views.ExperimentView.as_view()),
    path("experiments/<name:experiment_id>/plan", views.PlanView.as_view()),
    path("experiments/<name:experiment_id>/start", views.StartView.as_view()),
    path("experiments/<name:experiment_id>/stop", views.StopView.as_view()),
    path("experiments/<name:experiment_id>/extend", views.ExtendView.as_view()),
    path("experiments/<name:experiment_id>/decide", views.DecideView.as_view()),
    path("experiments/<name:experiment_id>/assignments", data.AssignmentsView.as_view()),
    path("experiments/<name:experiment_id>/exposures", data.ExposuresView.as_view()),
    path("experiments/<name:experiment_id>/outcomes", data.OutcomesView.as_view()),
    path("experiments/<name:experiment_id>/readouts", data.ReadoutsView.as_view()),
    path("endpoints/<name:endpoint_name>/shadow", shadow.ShadowView.as_view()),
    path("readouts/<name:readout_id>", data.ReadoutView.as_view()),
    path("readouts/<name:readout_id>/export", data.ReadoutExportView.as_view()),
    path("readouts/<name:readout_id>/table", data.ReadoutTableView.as_view()),
    path("readouts/<name:readout_id>/bundle", data.ReadoutBundleView.as_view()),
]
