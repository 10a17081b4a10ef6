"""Doorbells of reviews."""

from __future__ import annotations

from celery import shared_task

from apps.reviews.services.decide import reviews_expire


@shared_task(name="reviews.expire")  # type: ignore[untyped-decorator]
def reviews_expire_due() -> int:
    """Every ten seconds: close what nobody decided in time."""
    return reviews_expire()
