"""What becomes an alert besides objectives: how endpoints stand, rollouts that need somebody, telemetry that went
silent, what runs full (alert_capacity.py), a queue that stands still. Looked at by the clock; the apps whose objects
these are do not know alerts, so it is wired here.

A page is for callers who are not served in production and for a machine that cannot undo it by itself; all else is a
ticket.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from apps.accounts.domain.roles import Environment
from apps.alerts.domain.incidents import Severity
from apps.alerts.domain.messages import span
from apps.alerts.services.incidents import Observation
from apps.alerts.services.sources import Source, Unseen
from apps.experiments.selectors import queue_condition
from apps.kernel.clock import now
from apps.rollouts.domain.machine import Phase
from apps.rollouts.models import Rollout
from apps.rollouts.selectors import rollout_list, rollouts_unacknowledged
from apps.targets.selectors import endpoint_list
from apps.telemetry.domain.window import TotalRequest
from apps.telemetry.selectors import newest_arrivals, totals
from controlplane.alert_blind import unanswered_seen, watches_stand_still
from controlplane.alert_capacity import capacity_seen
from controlplane.alert_house import of_house
from controlplane.alert_keys import RolloutFault, health_key, rollout_key
from controlplane.places import endpoint_healths

SILENT_SECONDS: Final = 15 * 60
BUSY_REQUESTS: Final = 60
"""In the hour before it went silent: an endpoint that is hardly called is silent for hours and well."""
FORGOTTEN_SECONDS: Final = 7 * 86400
NEEDS: Final = frozenset({Phase.PAUSED.value, Phase.WAITING.value})
MOST: Final = 200


def endpoints_seen() -> Iterator[Observation | Unseen]:
    """Endpoints whose callers are not served as wished, or of which nobody knows."""
    yield from unanswered_seen()
    for one in endpoint_healths():
        if one.is_bad:
            yield Observation(
                key=health_key(one.id), source="targets", team_id=one.team, environment=one.environment,
                subject_type="endpoint", subject_id=one.id, subject_name=one.name, severity=_by(one.environment),
                title=f"{one.name} does not serve as wished", summary=one.sentence, link=f"/endpoints/{one.name}/",
            )  # fmt: skip


def rollouts_seen() -> Iterator[Observation]:
    """Rollouts that failed or went back and nobody has acknowledged, that wait for a person, or that the engine fails
    at."""
    for row in rollouts_unacknowledged()[:MOST]:
        is_lost = row.phase == Phase.FAILED
        severity = _by(row.endpoint.target.environment) if is_lost else Severity.TICKET.value
        what = "failed" if is_lost else "went back"
        yield _of_rollout(row, RolloutFault.ENDED, severity, f"{_named(row)} {what}", row.reason)
    for row in rollout_list(is_active=True)[:MOST]:
        if row.look_error:
            said = f"No guardrail is judged and traffic stays as it is: {row.look_error}"
            severity = _by(row.endpoint.target.environment)
            yield _of_rollout(row, RolloutFault.ENGINE, severity, f"The engine fails at {_named(row)}", said)
        elif row.phase in NEEDS:
            said = f"{_named(row)} waits for a person"
            yield _of_rollout(row, RolloutFault.WAITS, Severity.TICKET.value, said, row.reason)


def telemetry_seen() -> Iterator[Observation]:
    """Endpoints that were called and whose serving processes report nothing any more. Two queries on telemetry for any
    number of endpoints."""
    moment = now().timestamp()
    endpoints = {endpoint.name: endpoint for endpoint in endpoint_list()}
    silent = [
        (endpoints[name], newest)
        for name, newest in newest_arrivals(list(endpoints)).items()
        if SILENT_SECONDS <= moment - newest <= FORGOTTEN_SECONDS
    ]
    hours = [TotalRequest(one.name, int(newest) - 3600, int(newest) + 60) for one, newest in silent]
    for (endpoint, newest), counted in zip(silent, totals(hours), strict=True):
        if counted >= BUSY_REQUESTS:
            yield Observation(
                key=f"telemetry:{endpoint.pk}:silent", source="telemetry", team_id=endpoint.team_id,
                environment=endpoint.target.environment, subject_type="endpoint", subject_id=endpoint.pk,
                subject_name=endpoint.name, severity=Severity.TICKET.value,
                title=f"{endpoint.name} sends no telemetry",
                summary=f"Nothing has arrived for {span(moment - newest)}; in the hour before it was {counted:,} "
                "requests. Objectives and guardrails of it say nothing meanwhile.",
                facts={"requests_in_the_hour_before": counted}, link=f"/endpoints/{endpoint.name}/",
            )  # fmt: skip


def queues_seen() -> Iterator[Observation]:
    """Readouts wait and no worker computes them."""
    found = queue_condition()
    if found is not None:
        facts = {"waiting": found.evidence["waiting"]}
        yield of_house("experiments", "queue", "Nothing is computed", found.reason, facts)


SOURCES: Final[dict[str, Source]] = {
    "targets": endpoints_seen,
    "rollouts": rollouts_seen,
    "telemetry": telemetry_seen,
    "capacity": capacity_seen,
    "experiments": queues_seen,
    "watches": watches_stand_still,
}


def _by(environment: str) -> str:
    return (Severity.PAGE if environment == Environment.PRODUCTION else Severity.TICKET).value


def _named(row: Rollout) -> str:
    return f"The rollout of {row.candidate_version.semver} on {row.endpoint.name}"


def _of_rollout(row: Rollout, fault: RolloutFault, severity: str, title: str, summary: str) -> Observation:
    """Grouped with whatever else is wrong with its endpoint."""
    return Observation(
        key=rollout_key(row.pk, fault), source="rollouts", team_id=row.endpoint.team_id,
        environment=row.endpoint.target.environment, subject_type="endpoint", subject_id=row.endpoint_id,
        subject_name=row.endpoint.name, severity=severity, title=title, summary=summary, link=f"/rollouts/{row.pk}/",
    )  # fmt: skip
