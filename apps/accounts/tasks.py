"""The doorbells of accounts."""

from __future__ import annotations

from celery import shared_task

from apps.accounts.services.idempotency import idempotency_sweep


@shared_task(name="accounts.sweep")  # type: ignore[untyped-decorator]
def accounts_sweep() -> int:
    """Every hour: forget answers to repeated requests that are past their keeping."""
    return idempotency_sweep()
