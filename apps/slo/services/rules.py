"""The objectives of an endpoint as rules for a Prometheus that scrapes its serving processes."""

from __future__ import annotations

from django.conf import settings

from apps.kernel.actor import Actor
from apps.slo.domain.prometheus import Exported, Histograms, RuleFile, rule_file
from apps.slo.selectors import objective_list, spec_of
from apps.targets.services.scope import endpoint_require


def rules_export(*, actor: Actor, endpoint_id: str, histograms: str = Histograms.CLASSIC) -> RuleFile:
    """Of what is switched on. Raises NotFound, Forbidden (``objective.read``)."""
    endpoint = endpoint_require(actor, "objective.read", endpoint_id)
    rows = objective_list(endpoint_id=endpoint.pk).filter(is_enabled=True)
    return rule_file(
        endpoint.name,
        endpoint.target.environment,
        [Exported(row.pk, spec_of(row), row.team.slug) for row in rows],
        base_url=settings.PILOTHOUSE_BASE_URL,
        histograms=Histograms(histograms),
    )
