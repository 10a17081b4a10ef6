"""The accounts' part of /api/v1."""

from __future__ import annotations

from django.urls import path

from apps.accounts.api import explain, people, trusts, views

urlpatterns = [
    path("me", views.MeView.as_view()),
    path("tokens", views.TokensView.as_view()),
    path("tokens/<name:token_id>", views.TokenView.as_view()),
    path("tokens/<name:token_id>/rotate", views.TokenRotateView.as_view()),
    path("people", people.PeopleView.as_view()),
    path("people/<name:account_id>", people.PersonView.as_view()),
    path("people/<name:account_id>/deactivate", people.PersonDeactivateView.as_view()),
    path("people/<name:account_id>/activate", people.PersonActivateView.as_view()),
    path("people/<name:account_id>/invite", people.PersonInviteView.as_view()),
    path("people/<name:account_id>/roles", people.RolesView.as_view()),
    path("people/<name:account_id>/roles/<name:role_id>", people.RoleView.as_view()),
    path("services", people.ServicesView.as_view()),
    path("teams", people.TeamsView.as_view()),
    path("teams/<name:team>", people.TeamView.as_view()),
    path("ci-trusts", trusts.TrustsView.as_view()),
    path("ci-trusts/<name:trust_id>", trusts.TrustView.as_view()),
    path("auth/token-exchange", trusts.ExchangeView.as_view()),
    path("access/explain", explain.ExplainView.as_view()),
]
