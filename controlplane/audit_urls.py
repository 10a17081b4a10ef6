"""The audit pages and their doors: accounts, which guards, is above audit, so both meet here in the wiring."""

from __future__ import annotations

from django.urls import path

from apps.accounts.web_access import declares
from apps.audit.web import views

guarded = declares("audit.read")

app_name = "audit"
urlpatterns = [
    path("", guarded(views.log), name="log"),
    path("<int:seq>/", guarded(views.entry), name="entry"),
]
