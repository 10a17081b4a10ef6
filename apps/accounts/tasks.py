"""The doorbells of accounts."""

from __future__ import annotations

from celery import shared_task

from apps.accounts.services.exchange import assertions_sweep
from apps.accounts.services.idempotency import idempotency_sweep


@shared_task(name="accounts.sweep")  # type: ignore[untyped-decorator]
def accounts_sweep() -> int:
    """Every hour: forget answers to repeated requests past their keeping, and identities that have expired."""
    return idempotency_sweep() + assertions_sweep()
