"""Sign-in, sign-out and the first run."""

from django.urls import path

from apps.accounts.web import account, views

app_name = "accounts"
urlpatterns = [
    path("sign-in", views.sign_in, name="sign_in"),
    path("sign-out", views.sign_out, name="sign_out"),
    path("account/", account.account, name="account"),
    path("account/keys/", account.key_make, name="key_make"),
    path("account/keys/<str:token_id>/revoke", account.key_revoke, name="key_revoke"),
    path("setup/<str:token>", views.setup, name="setup"),
]
