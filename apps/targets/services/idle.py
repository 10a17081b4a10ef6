"""Whose turn it is to be looked at although nothing is due."""

from __future__ import annotations

from django.db.models import F, IntegerField, Value
from django.db.models.expressions import Func
from django.db.models.functions import Abs, Mod

from apps.kernel.clock import now
from apps.targets.models import Endpoint
from apps.targets.services.freshness import targets_answered_at

ROUND_SECONDS = 60
WINDOW_SECONDS = 2  # the period of targets.reconcile_due


class _HashText(Func):
    function = "hashtext"
    output_field = IntegerField()


def endpoints_to_check(limit: int) -> list[tuple[str, str]]:
    """(endpoint id, target id) of endpoints that agree, are not being watched, and whose second of the minute this is.

    The hash of the id spreads them over a minute, so no column says when one was last looked at and an idle endpoint
    costs no write. A look that comes late or twice does no harm: the next minute looks again.
    """
    second = int(now().timestamp()) % ROUND_SECONDS
    seconds = [(second + offset) % ROUND_SECONDS for offset in range(WINDOW_SECONDS)]
    turn = Mod(Abs(_HashText(F("id"))), Value(ROUND_SECONDS))
    found = list(
        Endpoint.objects.filter(removed_at=None, applied_generation=F("generation"), generation__gt=0)
        .alias(turn=turn)
        .filter(turn__in=seconds)
        .values_list("pk", "target_id")[:limit]
    )
    watched = targets_answered_at(sorted({target_id for _, target_id in found}))
    return [(endpoint_id, target_id) for endpoint_id, target_id in found if target_id not in watched]
