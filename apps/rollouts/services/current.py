"""What an active rollout waits for right now; the row keeps the words of the last change, a page wants these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import structlog

from apps.rollouts.domain.decide import decide
from apps.rollouts.domain.machine import TERMINAL, Phase
from apps.rollouts.models import Rollout
from apps.rollouts.services.claim import OUTAGES
from apps.rollouts.services.observe import rollouts_look
from apps.rollouts.services.record import findings_json
from apps.rollouts.services.rows import rollouts_read

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Current:
    """``reason`` is what ``decide`` would say now; ``findings`` in the form that the row keeps them."""

    reason: str
    findings: list[dict[str, Any]]


def rollout_current(rollout: Rollout) -> Current:
    """Decides without acting; nothing is written. A finished rollout, and one that goes back, keep their cause."""
    stored = Current(rollout.reason, list(rollout.findings))
    if Phase(rollout.phase) in TERMINAL or rollout.phase == Phase.ROLLING_BACK:
        return stored
    try:
        looks = rollouts_look(rollouts_read([rollout.pk]))
        if not looks or looks[0].rollout.revision != rollout.revision:
            return stored
        look = looks[0]
        return Current(decide(look.state, look.seen).reason, findings_json(look.state, look.seen))
    except OUTAGES:
        raise
    except Exception:
        # the engine's own looks fail too and say so in ``look_error``; a page must not, it is where that is read
        log.exception("look_failed", rollout=rollout.pk)
        return stored
