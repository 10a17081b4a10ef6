"""Sign-in, sign-out, the first run; oneself, people, teams, CI trusts, and who may what."""

from django.urls import path

from apps.accounts.web import account, explainer, go_on, keys, people, teams, trusts, views

app_name = "accounts"
urlpatterns = [
    path(".well-known/jwks.json", keys.jwks_document, name="jwks"),
    path("sign-in", views.sign_in, name="sign_in"),
    path("sign-out", views.sign_out, name="sign_out"),
    path("account/", account.account, name="account"),
    path("account/go-on", go_on.go_on, name="go_on"),
    path("account/keys/", account.key_make, name="key_make"),
    path("account/keys/<str:token_id>/revoke", account.key_revoke, name="key_revoke"),
    path("account/keys/<str:token_id>/rotate", account.key_rotate, name="key_rotate"),
    path("account/sessions/<int:session_id>/end", account.session_over, name="session_end"),
    path("account/sessions/end-others", account.sessions_over, name="sessions_end"),
    path("setup/<str:token>", views.setup, name="setup"),
    path("invite/<str:token>", views.invite, name="invite"),
    path("people/", people.people, name="people"),
    path("people/new", people.person_new, name="person_new"),
    path("people/<str:account_id>", people.person, name="person"),
    path("people/<str:account_id>/roles", people.role_give, name="role_give"),
    path("people/<str:account_id>/roles/<int:role_id>/take", people.role_take, name="role_take"),
    path("people/<str:account_id>/link", people.person_link, name="person_link"),
    path("people/<str:account_id>/active", people.person_active, name="person_active"),
    path("people/<str:account_id>/keys", people.service_key_make, name="service_key_make"),
    path("teams/", teams.teams, name="teams"),
    path("teams/<str:team>", teams.team, name="team"),
    path("trusts/", trusts.trusts, name="trusts"),
    path("trusts/test", trusts.trust_test, name="trust_test"),
    path("trusts/<str:trust_id>/end", trusts.trust_end, name="trust_end"),
    path("access/", explainer.explainer, name="explain"),
]
