"""What Pilothouse cannot see any more: targets that do not answer, objectives that nobody judges. Neither is a fault
that it saw, and neither may read as "nothing is wrong"."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from apps.accounts.domain.roles import Environment
from apps.alerts.domain.incidents import Severity
from apps.alerts.domain.messages import span
from apps.alerts.domain.watches import FAULTS, OBJECTIVES, STALLED, is_stalled, sentence_of
from apps.alerts.selectors import watches_seen
from apps.alerts.services.incidents import Observation
from apps.alerts.services.sources import Unseen
from apps.kernel.clock import now
from apps.targets.models import Endpoint
from apps.targets.selectors import endpoint_list
from apps.targets.services.freshness import FRESH_SECONDS, targets_answered_at
from apps.telemetry.domain.window import TotalRequest
from apps.telemetry.selectors import newest_arrivals, totals
from controlplane.alert_house import of_house
from controlplane.alert_keys import ANSWER, answer_key

FRESH_TELEMETRY_SECONDS: Final = 15
SILENT_SECONDS: Final = 60
"""Telemetry that is pulled comes twice a minute."""
LOOKED_SECONDS: Final = 600
BUSY_REQUESTS: Final = 60
"""In the ten minutes before its telemetry ended: a minute without any then says something."""


def unanswered_seen() -> Iterator[Observation | Unseen]:
    """Endpoints whose target has not answered for a while. A page where the telemetry of a busy production endpoint
    ended as well: a machine that is gone reports no error, and objectives see no request that it should have taken."""
    looks, moment = watches_seen().get(FAULTS), now()
    if looks is None or is_stalled(looks, moment) or (moment - looks.since).total_seconds() < FRESH_SECONDS:
        yield Unseen(ANSWER)  # after a start nobody has asked the targets yet
        return
    mute = [endpoint for endpoint in endpoint_list() if endpoint.observe_error]
    answered = targets_answered_at({endpoint.target_id for endpoint in mute})
    lost = [endpoint for endpoint in mute if endpoint.target_id not in answered]
    newest = newest_arrivals([endpoint.name for endpoint in lost])
    busy = _busy(newest)
    for endpoint in lost:
        arrived = newest.get(endpoint.name)
        silent = None if arrived is None else moment.timestamp() - arrived
        yield _unanswered(endpoint, silent, is_busy=endpoint.name in busy)


def _unanswered(endpoint: Endpoint, silent: float | None, *, is_busy: bool) -> Observation:
    """``silent``: seconds since its newest telemetry arrived, None where none ever did."""
    is_dark = silent is not None and silent >= SILENT_SECONDS and is_busy
    is_page = is_dark and endpoint.target.environment == Environment.PRODUCTION
    if silent is None:
        rest = "No telemetry ever came from it."
    elif is_dark:
        rest = f"Its telemetry ended {span(silent)} ago as well: callers are most likely not served."
    elif silent >= FRESH_TELEMETRY_SECONDS:
        rest = f"Its newest telemetry is {span(silent)} old."
    else:
        rest = "Its telemetry still arrives, so requests are served; nothing restarts or changes meanwhile."
    return Observation(
        key=answer_key(endpoint.pk), source="targets", team_id=endpoint.team_id,
        environment=endpoint.target.environment, subject_type="endpoint", subject_id=endpoint.pk,
        subject_name=endpoint.name, severity=(Severity.PAGE if is_page else Severity.TICKET).value,
        title=f"The target of {endpoint.name} does not answer", summary=f"{endpoint.observe_error} {rest}",
        link=f"/endpoints/{endpoint.name}/",
    )  # fmt: skip


def _busy(newest: Mapping[str, float]) -> set[str]:
    """By their requests in the minutes before their newest telemetry (Unix seconds)."""
    spans = [TotalRequest(name, int(at) - LOOKED_SECONDS, int(at) + 60) for name, at in newest.items()]
    return {one.endpoint for one, total in zip(spans, totals(spans), strict=True) if total >= BUSY_REQUESTS}


def watches_stand_still() -> Iterator[Observation | Unseen]:
    """Nobody judges objectives, although this look comes: whoever is told of burning budgets hears nothing. Time in
    which nobody looked at all, as before a start, does not count."""
    found = watches_seen()
    judged, looks = found.get(OBJECTIVES), found.get(FAULTS)
    if judged is None or looks is None or is_stalled(looks, now()):
        yield Unseen("watches:")
        return
    silent = now() - max(judged.at, looks.since)
    if silent > STALLED:
        facts = {"silent_seconds": round(silent.total_seconds())}
        yield of_house("watches", "objectives", "Objectives are not judged", sentence_of(judged), facts, Severity.PAGE)
