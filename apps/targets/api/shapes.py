"""What the API says about targets and freeze windows."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apps.kernel.rest import iso
from apps.targets.domain.driver import Support
from apps.targets.models import Environment, FreezeWindow, Target, TargetKind, TrafficPolicy
from apps.targets.selectors import capabilities_of, facts_of

KINDS = [kind.value for kind in TargetKind]
ENVIRONMENTS = [environment.value for environment in Environment]
POLICIES = [policy.value for policy in TrafficPolicy]
SUPPORTS = f"One of {', '.join(Support)}."


class CapabilitiesSchema(serializers.Serializer[Any]):
    weights = serializers.CharField(help_text=SUPPORTS)
    force_header = serializers.CharField(help_text=SUPPORTS)
    mirror = serializers.CharField(help_text=SUPPORTS)
    sticky = serializers.CharField(help_text=SUPPORTS)
    min_weight_bp = serializers.IntegerField()
    note = serializers.CharField(allow_blank=True)


class TargetSchema(serializers.Serializer[Any]):
    id = serializers.CharField()
    object = serializers.CharField()
    name = serializers.CharField()
    kind = serializers.CharField()
    environment = serializers.ChoiceField(choices=ENVIRONMENTS)
    connection = serializers.DictField()
    has_credentials = serializers.BooleanField(help_text="Some are in the vault. They are never shown.")
    credentials_at = serializers.DateTimeField(allow_null=True, help_text="When they were stored.")
    credentials_end_at = serializers.DateTimeField(
        allow_null=True,
        help_text="When the token or certificate in use ends, by its own word; null: it does not say.",
    )
    no_traffic_policy = serializers.ChoiceField(choices=POLICIES)
    capabilities = CapabilitiesSchema()
    version = serializers.CharField(allow_blank=True)
    gateway_url = serializers.CharField(allow_blank=True)
    warnings = serializers.ListField(child=serializers.CharField())
    missing_rights = serializers.ListField(child=serializers.CharField(), help_text="Nothing starts without them.")
    role = serializers.CharField(
        allow_blank=True, help_text="The rights to grant, as YAML to apply, where any is missing."
    )
    probe_error = serializers.CharField(allow_blank=True)
    probed_at = serializers.DateTimeField(allow_null=True)
    revision = serializers.IntegerField(help_text="Grows with every change; `If-Match` wants it.")
    created_at = serializers.DateTimeField()


class FreezeSchema(serializers.Serializer[Any]):
    id = serializers.CharField()
    object = serializers.CharField()
    endpoint = serializers.CharField(allow_null=True)
    environment = serializers.ChoiceField(choices=ENVIRONMENTS, allow_null=True)
    starts_at = serializers.DateTimeField()
    ends_at = serializers.DateTimeField()
    reason = serializers.CharField()
    created_by = serializers.CharField()


class LogsSchema(serializers.Serializer[Any]):
    object = serializers.CharField()
    endpoint = serializers.CharField()
    variant = serializers.CharField()
    lines = serializers.ListField(child=serializers.CharField(), help_text="Oldest first.")


def target_show(target: Target) -> dict[str, Any]:
    can = capabilities_of(target)
    return {
        "id": target.pk,
        "object": "target",
        "name": target.name,
        "kind": target.kind,
        "environment": target.environment,
        "connection": target.connection,
        "has_credentials": bool(target.credentials),
        "credentials_at": iso(target.credentials_at),
        "credentials_end_at": facts_of(target).get("credentials_end_at"),
        "no_traffic_policy": target.no_traffic_policy,
        "capabilities": {
            "weights": can.weights.value,
            "force_header": can.force_header.value,
            "mirror": can.mirror.value,
            "sticky": can.sticky.value,
            "min_weight_bp": can.min_weight_bp,
            "note": can.note,
        },
        "version": target.capabilities.get("version", ""),
        "gateway_url": target.capabilities.get("gateway_url", ""),
        "warnings": target.capabilities.get("warnings", []),
        "missing_rights": facts_of(target).get("missing_rights", []),
        "role": facts_of(target).get("role", ""),
        "probe_error": target.probe_error,
        "probed_at": iso(target.probed_at),
        "revision": target.revision,
        "created_at": iso(target.created_at),
    }


def freeze_show(window: FreezeWindow) -> dict[str, Any]:
    return {
        "id": window.pk,
        "object": "freeze",
        "endpoint": window.endpoint.name if window.endpoint else None,
        "environment": window.environment or None,
        "starts_at": iso(window.starts_at),
        "ends_at": iso(window.ends_at),
        "reason": window.reason,
        "created_by": window.created_by,
    }
