"""What the accounts' answers look like, and the bodies they take."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apps.accounts.domain.roles import Environment, Role
from apps.accounts.models import ApiToken, CiTrust, Membership, Team, User
from apps.accounts.services.trusts import PROVIDERS, trust_claims
from apps.kernel.rest import StrictChar, StrictDateTime, StrictSerializer, iso

ROLES = [role.value for role in Role]
PLACES = [place.value for place in Environment]
ACCOUNT_KINDS = ["person", "service"]
ACTOR_KINDS = ["user", "key", "ci"]


class ObjectSchema(serializers.Serializer[Any]):
    """What every object begins with."""

    id = serializers.CharField()
    object = serializers.CharField()


class MeSchema(serializers.Serializer[Any]):
    object = serializers.CharField()
    kind = serializers.ChoiceField(choices=ACTOR_KINDS)
    username = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]
    roles = serializers.ListField(child=serializers.ChoiceField(choices=ROLES))
    actions = serializers.ListField(child=serializers.CharField(), help_text="What this caller may do somewhere.")
    chain = serializers.ListField(child=serializers.CharField(), help_text="Who stands behind whom, the person first.")


class TokenSchema(ObjectSchema):
    label = serializers.CharField()  # type: ignore[assignment]
    username = serializers.CharField()
    roles = serializers.ListField(child=serializers.ChoiceField(choices=ROLES))
    teams = serializers.ListField(child=serializers.CharField(), help_text="Team ids; empty: as far as the account.")
    environments = serializers.ListField(child=serializers.ChoiceField(choices=PLACES))
    networks = serializers.ListField(child=serializers.CharField(), help_text="CIDR; empty: from anywhere.")
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)
    replaced_by = serializers.CharField(allow_null=True)


class NewTokenSchema(TokenSchema):
    token = serializers.CharField(help_text="The key itself, shown this once.")


class TokenBody(StrictSerializer):
    label = StrictChar(max_length=80, help_text="Where the key will be used.")  # type: ignore[assignment]
    roles = serializers.ListField(child=serializers.ChoiceField(choices=ROLES), min_length=1, max_length=len(ROLES))
    expires_at = StrictDateTime(required=False, allow_null=True, default=None)
    teams = serializers.ListField(child=StrictChar(max_length=32), default=list, max_length=50)
    environments = serializers.ListField(
        child=serializers.ChoiceField(choices=PLACES), default=list, max_length=len(PLACES)
    )
    networks = serializers.ListField(child=StrictChar(max_length=64), default=list, max_length=20)
    service = StrictChar(
        required=False, max_length=20, help_text="Id of the service account that it acts for; default: oneself."
    )


class TeamSchema(ObjectSchema):
    slug = serializers.CharField()
    name = serializers.CharField()
    created_at = serializers.DateTimeField()


class TeamBody(StrictSerializer):
    slug = StrictChar(max_length=40)
    name = StrictChar(max_length=80, required=False, default="", allow_blank=True)


class TeamPatch(StrictSerializer):
    name = StrictChar(max_length=80)


class RoleSchema(serializers.Serializer[Any]):
    id = serializers.CharField()
    role = serializers.ChoiceField(choices=ROLES)
    team = serializers.CharField(allow_null=True, help_text="Team id; null: every team.")
    environment = serializers.ChoiceField(choices=PLACES, allow_blank=True, help_text="Empty: every environment.")


class PersonSchema(ObjectSchema):
    username = serializers.CharField()
    kind = serializers.ChoiceField(choices=ACCOUNT_KINDS)
    team = serializers.CharField(allow_null=True, help_text="The team that owns a service account.")
    is_active = serializers.BooleanField()
    roles = RoleSchema(many=True)


class NewPersonSchema(PersonSchema):
    link = serializers.CharField(help_text="The one-time link by which the person chooses a password; shown this once.")


class PersonBody(StrictSerializer):
    username = StrictChar(max_length=150)


class ServiceBody(StrictSerializer):
    team = StrictChar(max_length=40, help_text="Id or slug.")
    name = StrictChar(max_length=40)


class RoleBody(StrictSerializer):
    role = serializers.ChoiceField(choices=ROLES)
    team = StrictChar(max_length=40, required=False, allow_null=True, default=None, help_text="Id or slug; null: all.")
    environment = serializers.ChoiceField(choices=PLACES, allow_blank=True, default="")


class TrustSchema(ObjectSchema):
    label = serializers.CharField()  # type: ignore[assignment]
    account = serializers.CharField()
    provider = serializers.ChoiceField(choices=list(PROVIDERS))
    issuer = serializers.CharField()
    audience = serializers.CharField()
    repository_id = serializers.CharField()
    environment = serializers.CharField(allow_blank=True)
    ref = serializers.CharField()
    roles = serializers.ListField(child=serializers.ChoiceField(choices=ROLES))
    environments = serializers.ListField(child=serializers.ChoiceField(choices=PLACES))
    created_at = serializers.DateTimeField()
    last_used_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)


class TrustBody(StrictSerializer):
    label = StrictChar(max_length=80)  # type: ignore[assignment]
    service = StrictChar(max_length=20, help_text="Id of the service account that the job acts as.")
    provider = serializers.ChoiceField(choices=list(PROVIDERS))
    issuer = StrictChar(max_length=300, help_text="As its tokens name it, letter by letter.")
    audience = StrictChar(max_length=300)
    repository_id = StrictChar(max_length=20, help_text="GitHub's repository_id, GitLab's project_id: numbers.")
    ref = StrictChar(max_length=300, help_text="refs/heads/main")
    environment = StrictChar(max_length=200, required=False, default="", allow_blank=True)
    roles = serializers.ListField(child=serializers.ChoiceField(choices=ROLES), min_length=1, max_length=len(ROLES))
    environments = serializers.ListField(
        child=serializers.ChoiceField(choices=PLACES), default=list, max_length=len(PLACES)
    )


def token_show(token: ApiToken) -> dict[str, Any]:
    """A key without its secret, which nobody has."""
    return {
        "id": token.id,
        "object": "token",
        "label": token.label,
        "username": token.user.get_username(),
        "roles": sorted(token.roles),
        "teams": list(token.teams),
        "environments": list(token.environments),
        "networks": list(token.networks),
        "created_at": iso(token.created_at),
        "expires_at": iso(token.expires_at),
        "last_used_at": iso(token.last_used_at),
        "revoked_at": iso(token.revoked_at),
        "replaced_by": token.replaced_by_id,
    }


def team_show(team: Team) -> dict[str, Any]:
    return {
        "id": team.pk, "object": "team", "slug": team.slug, "name": team.name, "created_at": iso(team.created_at)
    }  # fmt: skip


def role_show(row: Membership) -> dict[str, Any]:
    return {"id": str(row.pk), "role": row.role, "team": row.team_id, "environment": row.environment}


def person_show(user: User) -> dict[str, Any]:
    """A person or a service account with its roles (prefetch ``memberships``)."""
    roles = sorted(user.memberships.all(), key=lambda row: (row.team_id or "", row.environment, row.role))
    return {
        "id": str(user.pk),
        "object": user.kind,
        "username": user.get_username(),
        "kind": user.kind,
        "team": user.owner_team_id,
        "is_active": user.is_active,
        "roles": [role_show(row) for row in roles],
    }


def trust_show(trust: CiTrust) -> dict[str, Any]:
    return {
        "id": trust.pk,
        "object": "ci_trust",
        "label": trust.label,
        "account": trust.account.get_username(),
        **trust_claims(trust),
        "created_at": iso(trust.created_at),
        "last_used_at": iso(trust.last_used_at),
        "revoked_at": iso(trust.revoked_at),
    }
