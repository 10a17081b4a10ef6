"""People, what they may do, and the keys that act for them."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models.functions import Now

from apps.accounts.domain.roles import Role
from apps.kernel.orm import one_of


class User(AbstractUser):
    """A person. What they may do comes from memberships alone, never from is_staff or is_superuser."""


class Membership(models.Model):
    """One role of one person."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=16)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["user", "role"], name="membership_once"),
            one_of("role", Role, "membership_role_known"),
        ]

    def __str__(self) -> str:
        return f"{self.user} is {self.role}"


class ApiToken(models.Model):
    """A key ``plh_<id>_<secret><crc>``; only the SHA-256 of the secret is stored."""

    id = models.CharField(primary_key=True, max_length=16)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_tokens")
    label = models.CharField(max_length=80)
    secret_hash = models.CharField(max_length=64)
    roles = models.JSONField(default=list)
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"plh_{self.id} ({self.label})"


class SetupToken(models.Model):
    """The one-time right to create the first account; only its SHA-256 is stored."""

    token_hash = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(db_default=Now())
    used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"setup token of {self.created_at}"


class IdempotencyRecord(models.Model):
    """The answer to a POST that carried an ``Idempotency-Key``, written in the transaction of its effect; without a
    ``status``, a claim of the first call (services/idempotency.py)."""

    principal = models.CharField(max_length=80)
    route = models.CharField(max_length=200)
    key = models.CharField(max_length=200)
    body_hash = models.CharField(max_length=71)
    status = models.PositiveSmallIntegerField(null=True)
    response = models.JSONField(null=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["principal", "route", "key"], name="idempotency_once")]

    def __str__(self) -> str:
        return f"{self.principal} {self.route} {self.key}"
