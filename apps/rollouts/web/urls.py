"""Rollouts: pages, fragments, commands, and the parts that other rooms show."""

from django.urls import path

from apps.rollouts.web import commands, endpoint_parts, endpoint_rights, pages, sequence_new, sequences, wizard

app_name = "rollouts"
urlpatterns = [
    path("", pages.rollouts, name="list"),
    path("_rows/", pages.rows, name="rows"),
    path("new/", wizard.new, name="new"),
    path("at/<slug:name>/traffic/", endpoint_parts.endpoint_traffic, name="endpoint_traffic"),
    path("at/<slug:name>/offers/", endpoint_rights.endpoint_offers, name="endpoint_offers"),
    path("at/<slug:name>/charts/<str:span>/", endpoint_parts.endpoint_charts, name="endpoint_charts"),
    path("at/<slug:name>/actions/", endpoint_rights.endpoint_actions, name="endpoint_actions"),
    path("at/<slug:name>/events/", endpoint_parts.endpoint_events, name="endpoint_events"),
    path("of/<str:name>/live/", endpoint_parts.model_live, name="model_live"),
    path("of/<str:name>/<str:reference>/offers/", endpoint_parts.version_offers, name="version_offers"),
    path("sequences/", sequences.sequences, name="sequences"),
    path("sequences/_rows/", sequences.rows, name="sequence_rows"),
    path("sequences/new/", sequence_new.new, name="sequence_new"),
    path("sequences/<str:sequence_id>/", sequences.sequence, name="sequence"),
    path("sequences/<str:sequence_id>/head/", sequences.head, name="sequence_head"),
    path("sequences/<str:sequence_id>/log/", sequences.log, name="sequence_log"),
    path("sequences/<str:sequence_id>/actions/", sequences.actions, name="sequence_actions"),
    path("sequences/<str:sequence_id>/do/<str:command>/", sequences.command, name="sequence_command"),
    path("<str:rollout_id>/", pages.rollout, name="detail"),
    path("<str:rollout_id>/head/", pages.head, name="head"),
    path("<str:rollout_id>/charts/", pages.charts, name="charts"),
    path("<str:rollout_id>/log/", pages.log, name="log"),
    path("<str:rollout_id>/log/<int:revision>/", pages.evidence, name="evidence"),
    path("<str:rollout_id>/actions/", pages.actions, name="actions"),
    path("<str:rollout_id>/do/<str:command>/", commands.command, name="command"),
]
