"""Sign-in, sign-out and the first run."""

from django.urls import path

from apps.accounts.web import views

app_name = "accounts"
urlpatterns = [
    path("sign-in", views.sign_in, name="sign_in"),
    path("sign-out", views.sign_out, name="sign_out"),
    path("setup/<str:token>", views.setup, name="setup"),
]
