"""What the API takes about objectives. Shapes only: what an objective means is checked in domain/objective.py."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apps.kernel.rest import PageQuery, StrictBoolean, StrictChar, StrictInteger, StrictSerializer
from apps.slo.domain.objective import NAME_MAX, Kind, Scope
from apps.slo.domain.policy import FULL_BP, MAX_LONG_SECONDS, MAX_TIERS, PPM, Profile, Severity
from apps.slo.domain.prometheus import Histograms
from apps.slo.services.replays import MAX_DAYS

KINDS = [kind.value for kind in Kind]
SCOPES = [scope.value for scope in Scope]
PROFILES = [profile.value for profile in Profile]
SEVERITIES = [severity.value for severity in Severity]


class TierBody(StrictSerializer):
    name = StrictChar(max_length=40)
    severity = serializers.ChoiceField(choices=SEVERITIES)
    long_seconds = StrictInteger(min_value=60, max_value=MAX_LONG_SECONDS, help_text="Whole minutes.")
    short_seconds = StrictInteger(min_value=60, max_value=MAX_LONG_SECONDS, help_text="Shorter: ends it on recovery.")
    budget_bp = StrictInteger(
        min_value=1, max_value=FULL_BP, help_text="Basis points of the period's budget that the long window may cost."
    )


class PolicyBody(StrictSerializer):
    profile = serializers.ChoiceField(choices=PROFILES, required=False)
    tiers = serializers.ListField(
        child=TierBody(), required=False, max_length=MAX_TIERS, help_text="For the profile custom only."
    )
    min_bad = StrictInteger(min_value=1, max_value=1_000_000, required=False)
    floor_requests = StrictInteger(
        min_value=0, max_value=10**12, required=False, help_text="At least so many requests a period are assumed."
    )


class ObjectivePatch(StrictSerializer):
    name = StrictChar(max_length=NAME_MAX, required=False)
    kind = serializers.ChoiceField(choices=KINDS, required=False)
    target_ppm = StrictInteger(
        min_value=1, max_value=PPM - 1, required=False, help_text="Parts per million that must be good."
    )
    scope = serializers.ChoiceField(choices=SCOPES, required=False)
    limit_ms = StrictInteger(
        min_value=1, max_value=600_000, required=False, allow_null=True, help_text="latency, percentile."
    )
    window_seconds = StrictInteger(
        min_value=60, max_value=3_600, required=False, allow_null=True, help_text="percentile only."
    )
    period_days = StrictInteger(min_value=1, max_value=90, required=False)
    policy = PolicyBody(required=False)
    runbook_url = StrictChar(max_length=500, required=False, allow_blank=True)
    team = StrictChar(max_length=40, required=False, help_text="Id or slug of who owns it; the endpoint's team.")
    is_enabled = StrictBoolean(required=False)


class ObjectiveBody(ObjectivePatch):
    name = StrictChar(max_length=NAME_MAX)
    kind = serializers.ChoiceField(choices=KINDS)
    target_ppm = StrictInteger(min_value=1, max_value=PPM - 1, help_text="Parts per million that must be good.")


class _ReplayOf(StrictSerializer):
    days = StrictInteger(min_value=1, max_value=MAX_DAYS, default=MAX_DAYS)
    variant = StrictChar(max_length=63, default="", allow_blank=True, help_text="Which version, with scope each.")


class ReplayNewBody(_ReplayOf):
    objective = ObjectiveBody()


class ReplayBody(_ReplayOf):
    changes = ObjectivePatch(required=False)


class ObjectivesQuery(PageQuery):
    pass


class RulesQuery(StrictSerializer):
    histograms = serializers.ChoiceField(
        choices=[one.value for one in Histograms], default=Histograms.CLASSIC.value, help_text="How latency is scraped."
    )


def plain(given: Any) -> Any:
    """Nested validated data as plain dictionaries and lists, for the domain."""
    if isinstance(given, dict):
        return {name: plain(value) for name, value in given.items()}
    if isinstance(given, list | tuple):
        return [plain(value) for value in given]
    return given
