"""Reads of accounts."""

from __future__ import annotations

from apps.accounts.models import ApiToken, User


def token_list(user: User) -> list[ApiToken]:
    """The keys that a person made, newest first, revoked ones too: what existed stays visible."""
    return list(ApiToken.objects.filter(user=user).order_by("-created_at", "id"))
