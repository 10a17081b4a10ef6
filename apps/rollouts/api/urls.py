"""The rollouts' part of /api/v1."""

from __future__ import annotations

from django.urls import path

from apps.rollouts.api import commands, endpoints, sequences, views

urlpatterns = [
    path("endpoints", endpoints.EndpointsView.as_view()),
    path("endpoints/<name:endpoint_name>", endpoints.EndpointView.as_view()),
    path("rollouts", views.RolloutsView.as_view()),
    path("rollouts/<name:rollout_id>", views.RolloutView.as_view()),
    path("rollouts/<name:rollout_id>/transitions", views.TransitionsView.as_view()),
    path("rollouts/<name:rollout_id>/pause", commands.PauseView.as_view()),
    path("rollouts/<name:rollout_id>/resume", commands.ResumeView.as_view()),
    path("rollouts/<name:rollout_id>/promote", commands.PromoteView.as_view()),
    path("rollouts/<name:rollout_id>/abort", commands.AbortView.as_view()),
    path("rollouts/<name:rollout_id>/roll-back", commands.RollBackView.as_view()),
    path("rollouts/<name:rollout_id>/acknowledge", commands.AcknowledgeView.as_view()),
    path("rollouts/<name:rollout_id>/retry", commands.RetryView.as_view()),
    path("rollout-sequences", sequences.SequencesView.as_view()),
    path("rollout-sequences/<name:sequence_id>", sequences.SequenceView.as_view()),
    path("rollout-sequences/<name:sequence_id>/transitions", sequences.SequenceTransitionsView.as_view()),
    path("rollout-sequences/<name:sequence_id>/pause", sequences.SequencePauseView.as_view()),
    path("rollout-sequences/<name:sequence_id>/resume", sequences.SequenceResumeView.as_view()),
    path("rollout-sequences/<name:sequence_id>/continue", sequences.SequenceContinueView.as_view()),
    path("rollout-sequences/<name:sequence_id>/abort", sequences.SequenceAbortView.as_view()),
]
