"""People, what they may do, and the keys that act for them."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from typing import ClassVar

from django.contrib.auth.models import AbstractUser
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from apps.accounts.domain.roles import Environment, Role
from apps.kernel.ids import new_id
from apps.kernel.orm import closed_choices, one_of
from apps.kernel.vault import sealed_field

DEFAULT_TEAM = "default"


class Team(models.Model):
    """Owns models, endpoints and service accounts."""

    id = models.CharField(primary_key=True, max_length=32, default=partial(new_id, "tm"))
    slug = models.SlugField(max_length=40, unique=True)
    name = models.CharField(max_length=80)
    created_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return self.slug


class UserKind(StrEnum):
    PERSON = "person"
    SERVICE = "service"


class User(AbstractUser):
    """A person, or a service account of a team. What they may do comes from memberships alone, never from is_staff or
    is_superuser. A service account never signs in: it has no password, only keys and CI trusts."""

    kind = models.CharField(max_length=8, default=UserKind.PERSON.value)
    owner_team = models.ForeignKey(
        Team, null=True, blank=True, on_delete=models.PROTECT, related_name="service_accounts"
    )

    class Meta(AbstractUser.Meta):
        constraints: ClassVar = [
            one_of("kind", UserKind, "user_kind_known"),
            models.CheckConstraint(
                condition=Q(kind="person", owner_team=None) | Q(kind="service", owner_team__isnull=False),
                name="service_account_has_a_team",
            ),
        ]


class Membership(models.Model):
    """One role of one person, in one team (none: in every team) and one environment ("": in every one)."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    team = models.ForeignKey(Team, null=True, blank=True, on_delete=models.CASCADE, related_name="memberships")
    environment = models.CharField(max_length=16, default="", blank=True)
    role = models.CharField(max_length=16)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["user", "team", "environment", "role"], name="membership_once", nulls_distinct=False
            ),
            one_of("role", Role, "membership_role_known"),
            models.CheckConstraint(
                condition=Q(environment__in=["", *closed_choices(Environment)]), name="membership_environment_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} is {self.role}"


class ApiToken(models.Model):
    """A key ``plh_<id>_<secret><crc>``; only the SHA-256 of the secret is stored.

    Empty ``teams`` and ``environments`` mean as far as its account may; empty ``networks`` from anywhere (CIDR).
    ``made_by`` is the person who holds it: the account itself, or whoever made a service account's key.
    """

    id = models.CharField(primary_key=True, max_length=16)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_tokens")
    made_by = models.ForeignKey(User, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    label = models.CharField(max_length=80)
    secret_hash = models.CharField(max_length=64)
    roles = models.JSONField(default=list)
    teams = ArrayField(models.CharField(max_length=32), default=list, blank=True)
    environments = ArrayField(models.CharField(max_length=16), default=list, blank=True)
    networks = ArrayField(models.CharField(max_length=64), default=list, blank=True)
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    replaced_by = models.OneToOneField(
        "self", null=True, blank=True, on_delete=models.SET_NULL, related_name="replaces"
    )

    def __str__(self) -> str:
        return f"plh_{self.id} ({self.label})"


class SetupToken(models.Model):
    """The one-time right to create the first account; only its SHA-256 is stored."""

    token_hash = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(db_default=Now())
    used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"setup token of {self.created_at}"


class InviteToken(models.Model):
    """The one-time right of one person to choose a password; only its SHA-256 is stored."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="invites")
    token_hash = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"invitation of {self.user}"


class SigningKey(models.Model):
    """One RSA key pair for our own tokens: the newest signs, the others only verify until ``retired_at``."""

    kid = models.CharField(primary_key=True, max_length=32, default=partial(new_id, "sk"))
    public_pem = models.TextField()
    private_sealed = models.TextField()
    created_at = models.DateTimeField(db_default=Now())
    retired_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.kid


sealed_field("accounts.SigningKey", "private_sealed")


class CiTrust(models.Model):
    """Which CI job may act as which service account: every claim is compared exactly, there are no wildcards."""

    id = models.CharField(primary_key=True, max_length=32, default=partial(new_id, "ct"))
    label = models.CharField(max_length=80)
    account = models.ForeignKey(User, on_delete=models.CASCADE, related_name="ci_trusts")
    made_by = models.ForeignKey(User, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    provider = models.CharField(max_length=16)
    issuer = models.CharField(max_length=300)
    audience = models.CharField(max_length=300)
    repository_id = models.CharField(max_length=64)
    environment = models.CharField(max_length=200, default="", blank=True)
    ref = models.CharField(max_length=300)
    roles = ArrayField(models.CharField(max_length=16), default=list)
    environments = ArrayField(models.CharField(max_length=16), default=list, blank=True)
    created_at = models.DateTimeField(db_default=Now())
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["issuer", "audience", "repository_id", "environment", "ref", "account"],
                condition=Q(revoked_at=None),
                name="ci_trust_once",
            ),
        ]

    def __str__(self) -> str:
        return self.label


class UsedAssertion(models.Model):
    """A CI identity token that was exchanged already; kept until it would have expired."""

    issuer = models.CharField(max_length=300)
    jti_hash = models.CharField(max_length=64)
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["issuer", "jti_hash"], name="assertion_used_once")]

    def __str__(self) -> str:
        return f"{self.issuer} {self.jti_hash[:8]}"


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
