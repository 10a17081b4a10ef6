"""What the API says about endpoints: desired, observed, and the rollout under way."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apps.kernel.rest import iso
from apps.targets.domain.driver import Observed, VariantState
from apps.targets.domain.plan import EndpointPlan, Role
from apps.targets.selectors import observed_of, plan_of


class MirrorSchema(serializers.Serializer[Any]):
    variant = serializers.CharField()
    fraction_bp = serializers.IntegerField()


class EndpointVariantSchema(serializers.Serializer[Any]):
    key = serializers.CharField()
    version = serializers.CharField()
    role = serializers.ChoiceField(choices=[role.value for role in Role])
    weight_bp = serializers.IntegerField(help_text="The share that is wanted; 10000 is all.")
    observed_weight_bp = serializers.IntegerField(allow_null=True, help_text="What the gateway serves; null: unknown.")
    state = serializers.ChoiceField(choices=[*(state.value for state in VariantState), "unknown"])
    reason = serializers.CharField(allow_blank=True)
    desired_replicas = serializers.IntegerField()
    ready_replicas = serializers.IntegerField()
    restarts = serializers.IntegerField()
    artifact_digest = serializers.CharField()


class EndpointSchema(serializers.Serializer[Any]):
    id = serializers.CharField()
    object = serializers.CharField()
    name = serializers.CharField()
    target = serializers.CharField()
    environment = serializers.CharField()
    model = serializers.CharField()
    stable_version = serializers.CharField(allow_null=True)
    follows = serializers.CharField(allow_blank=True, help_text="The alias whose approved moves start rollouts here.")
    address = serializers.CharField(allow_blank=True, help_text="Where callers send requests; empty until observed.")
    variants = EndpointVariantSchema(many=True)
    mirror = MirrorSchema(allow_null=True)
    generation = serializers.IntegerField()
    observed_generation = serializers.IntegerField(help_text="The newest generation that is wholly true there.")
    observed_at = serializers.DateTimeField(allow_null=True)
    observe_error = serializers.CharField(allow_blank=True)
    route_error = serializers.CharField(allow_blank=True)
    apply_error = serializers.CharField(allow_blank=True)
    rollout = serializers.CharField(allow_null=True, help_text="The rollout under way, if any.")
    revision = serializers.IntegerField()
    created_at = serializers.DateTimeField()


def endpoint_show(endpoint: Any, rollout_id: str | None) -> dict[str, Any]:
    """``endpoint`` as targets' selectors give it (target, model and stable version at hand)."""
    plan, observed = plan_of(endpoint), observed_of(endpoint)
    mirror = plan.route.mirror if plan else None
    return {
        "id": endpoint.pk,
        "object": "endpoint",
        "name": endpoint.name,
        "target": endpoint.target.name,
        "environment": endpoint.target.environment,
        "model": endpoint.model.name,
        "stable_version": endpoint.stable_version.semver if endpoint.stable_version else None,
        "follows": endpoint.follows,
        "address": observed.address if observed else "",
        "variants": _variants(plan, observed) if plan else [],
        "mirror": {"variant": mirror.variant, "fraction_bp": mirror.fraction_bp} if mirror else None,
        "generation": endpoint.generation,
        "observed_generation": observed.applied_generation if observed else 0,
        "observed_at": iso(endpoint.observed_at),
        "observe_error": endpoint.observe_error,
        "route_error": observed.route_error if observed else "",
        "apply_error": endpoint.apply_error,
        "rollout": rollout_id,
        "revision": endpoint.revision,
        "created_at": iso(endpoint.created_at),
    }


def _variants(plan: EndpointPlan, observed: Observed | None) -> list[dict[str, Any]]:
    served = observed.route.weights_bp if observed and observed.route else None
    found = []
    for spec in plan.variants:
        seen = observed.variant(spec.key) if observed else None
        found.append(
            {
                "key": spec.key,
                "version": spec.version,
                "role": spec.role.value,
                "weight_bp": plan.weight_bp(spec.key),
                "observed_weight_bp": served.get(spec.key, 0) if served is not None else None,
                "state": seen.state.value if seen else "unknown",
                "reason": seen.reason if seen else "",
                "desired_replicas": spec.replicas,
                "ready_replicas": seen.ready_replicas if seen else 0,
                "restarts": seen.restarts if seen else 0,
                "artifact_digest": spec.artifact_digest,
            }
        )
    return found
