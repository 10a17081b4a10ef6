"""What the API answers about objectives."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rest_framework import serializers

from apps.kernel.rest import iso
from apps.kernel.verdicts import Verdict
from apps.slo.api.bodies import PolicyBody
from apps.slo.domain.objective import ObjectiveSpec
from apps.slo.domain.policy import Policy
from apps.slo.domain.replay import Replay, TierReplay
from apps.slo.models import Objective
from apps.slo.selectors import BurnShown, TierShown, spec_of


class ObjectiveSchema(serializers.Serializer[Any]):
    object = serializers.CharField()
    id = serializers.CharField()
    endpoint = serializers.CharField()
    team = serializers.CharField()
    name = serializers.CharField()
    sentence = serializers.CharField(help_text="The promise in words.")
    kind = serializers.CharField()
    scope = serializers.CharField()
    target_ppm = serializers.IntegerField()
    limit_ms = serializers.IntegerField(allow_null=True)
    window_seconds = serializers.IntegerField(allow_null=True)
    period_days = serializers.IntegerField()
    policy = PolicyBody()
    factors = serializers.DictField(child=serializers.FloatField(), help_text="Tier -> derived burn-rate factor.")
    runbook_url = serializers.CharField(allow_blank=True)
    is_enabled = serializers.BooleanField()
    revision = serializers.IntegerField()
    created_by = serializers.CharField()
    created_at = serializers.DateTimeField()


class TierStateSchema(serializers.Serializer[Any]):
    name = serializers.CharField()
    severity = serializers.CharField()
    factor = serializers.FloatField()
    long_seconds = serializers.IntegerField()
    short_seconds = serializers.IntegerField()
    long_burn = serializers.FloatField(allow_null=True, help_text="null: no request in the window.")
    short_burn = serializers.FloatField(allow_null=True)
    is_firing = serializers.BooleanField()
    is_held = serializers.BooleanField(help_text="On since before the requests stopped; silence is not recovery.")
    note = serializers.CharField(allow_blank=True)


class BurnSchema(serializers.Serializer[Any]):
    objective = serializers.CharField()
    name = serializers.CharField()
    kind = serializers.CharField()
    sentence = serializers.CharField()
    variant = serializers.CharField(allow_blank=True, help_text="Empty: all versions together.")
    verdict = serializers.CharField(help_text=f"One of {', '.join(Verdict)}.")
    reason = serializers.CharField()
    severity = serializers.CharField(allow_null=True)
    firing = serializers.ListField(child=serializers.CharField())
    since = serializers.DateTimeField(allow_null=True)
    budget_remaining = serializers.FloatField(allow_null=True, help_text="Share of the budget; null without requests.")
    seconds_to_exhaustion = serializers.FloatField(allow_null=True, help_text="null: it lasts.")
    total = serializers.IntegerField()
    bad = serializers.IntegerField()
    tiers = TierStateSchema(many=True)
    newest_at = serializers.DateTimeField(allow_null=True)
    age_seconds = serializers.FloatField(allow_null=True)
    computed_at = serializers.DateTimeField(allow_null=True)


class BurnsSchema(serializers.Serializer[Any]):
    object = serializers.CharField()
    endpoint = serializers.CharField()
    burns = BurnSchema(many=True)


class EpisodeSchema(serializers.Serializer[Any]):
    began_at = serializers.DateTimeField()
    detected_at = serializers.DateTimeField()
    reset_at = serializers.DateTimeField(allow_null=True)
    recovered_at = serializers.DateTimeField(allow_null=True)
    detected_after_seconds = serializers.IntegerField()
    reset_after_seconds = serializers.IntegerField(allow_null=True)
    worst_share = serializers.FloatField()


class TierReplaySchema(serializers.Serializer[Any]):
    name = serializers.CharField()
    severity = serializers.CharField()
    factor = serializers.FloatField()
    fired = serializers.IntegerField(help_text="How many times.")
    episodes = EpisodeSchema(many=True)
    minutes_on = serializers.IntegerField()
    minutes_gated = serializers.IntegerField(help_text="Over its factor, kept silent for too little traffic.")
    least_bad = serializers.FloatField(help_text="So many bad requests in the long window are the least that fire it.")
    is_under_floor = serializers.BooleanField(help_text="There was never so much traffic: silent even if all fail.")


class ReplaySchema(serializers.Serializer[Any]):
    object = serializers.CharField()
    sentence = serializers.CharField()
    since = serializers.DateTimeField()
    until = serializers.DateTimeField()
    requests = serializers.IntegerField()
    bad = serializers.IntegerField()
    minutes_with_requests = serializers.IntegerField()
    tiers = TierReplaySchema(many=True)


class ProfileTierSchema(serializers.Serializer[Any]):
    name = serializers.CharField()
    severity = serializers.CharField()
    long_seconds = serializers.IntegerField()
    short_seconds = serializers.IntegerField()
    budget_bp = serializers.IntegerField()
    factor = serializers.FloatField(help_text="For a period of 30 days.")


class ObjectiveProfileSchema(serializers.Serializer[Any]):
    profile = serializers.CharField()
    tiers = ProfileTierSchema(many=True)
    min_bad = serializers.IntegerField()
    floor_requests = serializers.IntegerField()


class ObjectiveProfilesSchema(serializers.Serializer[Any]):
    profiles = ObjectiveProfileSchema(many=True)


class RulesSchema(serializers.Serializer[Any]):
    object = serializers.CharField()
    endpoint = serializers.CharField()
    rules = serializers.CharField(help_text="YAML for rule_files of Prometheus.")
    notes = serializers.ListField(child=serializers.CharField(), help_text="Where Prometheus measures otherwise.")


def objective_show(row: Objective) -> dict[str, Any]:
    spec = spec_of(row)
    return {
        "object": "objective",
        "id": row.pk,
        "endpoint": row.endpoint.name,
        "team": row.team.slug,
        "name": row.name,
        "sentence": spec.sentence,
        "kind": row.kind,
        "scope": row.scope,
        "target_ppm": row.target_ppm,
        "limit_ms": row.limit_ms,
        "window_seconds": row.window_seconds,
        "period_days": row.period_days,
        "policy": row.policy,
        "factors": {tier.name: float(tier.factor(spec.period_days)) for tier in spec.policy.tiers},
        "runbook_url": row.runbook_url,
        "is_enabled": row.is_enabled,
        "revision": row.revision,
        "created_by": row.created_by,
        "created_at": iso(row.created_at),
    }


def burn_show(burn: BurnShown) -> dict[str, Any]:
    return {
        "objective": burn.objective_id,
        "name": burn.name,
        "kind": burn.kind,
        "sentence": burn.sentence,
        "variant": burn.variant,
        "verdict": burn.verdict.value,
        "reason": burn.reason,
        "severity": burn.severity,
        "firing": list(burn.firing),
        "since": iso(burn.since),
        "budget_remaining": burn.remaining,
        "seconds_to_exhaustion": burn.exhausts_in,
        "total": burn.total,
        "bad": burn.bad,
        "tiers": [_tier(tier) for tier in burn.tiers],
        "newest_at": iso(burn.newest_at),
        "age_seconds": burn.age_seconds,
        "computed_at": iso(burn.computed_at),
    }


def _tier(tier: TierShown) -> dict[str, Any]:
    return asdict(tier)


def profile_show(policy: Policy) -> dict[str, Any]:
    tiers = [{**tier.to_json(), "factor": float(tier.factor(30))} for tier in policy.tiers]
    return {
        "profile": policy.profile.value, "tiers": tiers, "min_bad": policy.min_bad,
        "floor_requests": policy.floor_requests,
    }  # fmt: skip


def replay_show(spec: ObjectiveSpec, found: Replay) -> dict[str, Any]:
    return {
        "object": "replay",
        "sentence": spec.sentence,
        "since": _moment(found.since),
        "until": _moment(found.until),
        "requests": found.requests,
        "bad": found.bad,
        "minutes_with_requests": found.minutes_with_events,
        "tiers": [_replayed(tier) for tier in found.tiers],
    }


def _replayed(tier: TierReplay) -> dict[str, Any]:
    return {
        "name": tier.name,
        "severity": tier.severity.value,
        "factor": tier.factor,
        "fired": len(tier.episodes),
        "episodes": [
            {
                "began_at": _moment(one.began_at),
                "detected_at": _moment(one.detected_at),
                "reset_at": None if one.reset_at is None else _moment(one.reset_at),
                "recovered_at": None if one.recovered_at is None else _moment(one.recovered_at),
                "detected_after_seconds": one.detected_after,
                "reset_after_seconds": one.reset_after,
                "worst_share": one.worst_share,
            }
            for one in tier.episodes[-100:]
        ],
        "minutes_on": tier.minutes_on,
        "minutes_gated": tier.minutes_gated,
        "least_bad": tier.least_bad,
        "is_under_floor": tier.is_under_floor,
    }


def _moment(seconds: int) -> str | None:
    return iso(datetime.fromtimestamp(seconds, UTC))
