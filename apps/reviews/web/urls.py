"""Reviews."""

from django.urls import path

from apps.reviews.web import views

app_name = "reviews"
urlpatterns = [
    path("", views.reviews, name="list"),
    path("<str:review_id>/", views.review, name="detail"),
]
