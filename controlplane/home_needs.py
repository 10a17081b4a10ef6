"""What waits for a person, and the one sentence for when nothing does: the top of the fleet page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Protocol

from django.urls import reverse

from apps.alerts.domain.incidents import IncidentState, Severity
from apps.alerts.models import Incident
from apps.alerts.web.said import is_calling, row_of
from apps.kernel.actor import Actor
from apps.reviews.models import Review
from apps.rollouts.domain.machine import Phase
from apps.rollouts.domain.sequence import SequencePhase
from apps.rollouts.models import Rollout
from apps.rollouts.selectors import rollouts_unacknowledged, sequence_list
from apps.targets.models import Endpoint
from apps.targets.services.scope import why_not_at
from apps.targets.web.health import Health
from controlplane.alert_keys import ANSWER, RolloutFault, answer_key, health_key, rollout_key

WAITS: Final = frozenset({Phase.PAUSED, Phase.WAITING, Phase.ROLLING_BACK})
SEQUENCE_WAITS: Final = (SequencePhase.STOPPED, SequencePhase.WAITING, SequencePhase.PAUSED)
MAX_WENT_BACK: Final = 20
MAX_ALERTS: Final = 5
MAX_REVIEWS: Final = 5
MAX_SENTENCE: Final = 300
ACKNOWLEDGE: Final = "acknowledge"


class LineLike(Protocol):
    """What is read of a line of the fleet."""

    @property
    def endpoint(self) -> Endpoint: ...
    @property
    def health(self) -> Health: ...
    @property
    def rollout(self) -> Rollout | None: ...


@dataclass(frozen=True, slots=True)
class Need:
    """Something that waits for a person: shape and word, sentence, and where to go. ``acknowledge``: where to say that
    they know of it, "" where they may not; ``revision``: what they saw."""

    state: str
    word: str
    title: str
    sentence: str
    url: str
    action: str
    acknowledge: str = ""
    revision: int | None = None
    since: datetime | None = None
    alert: str = ""
    """The key of the alert that says the same."""
    is_urgent: bool = False


@dataclass(frozen=True, slots=True)
class Quiet:
    """What is known and waits for somebody else, or that nothing is wrong: the sentence after the list, or instead of
    it. ``has_alerts``: the list of alerts says more."""

    level: str
    word: str
    sentence: str = ""
    has_alerts: bool = False


def needs_of(actor: Actor, lines: Sequence[LineLike], waiting: Sequence[Incident], reviews: list[Review]) -> list[Need]:
    """What callers meet now and who is paged for it first, then what moves, then what can wait for the morning.
    ``waiting``: the alerts that wait for ``actor``, worst first. A fault that is in the list by itself is not in it
    once more as its alert: one line has both ways."""
    mine = {row.key: row for row in waiting}

    def told(found: Iterable[Need]) -> list[Need]:
        return [_with_alert(need, mine.pop(need.alert, None)) for need in found]

    bad = told(_endpoint_need(line) for line in lines if line.health.level == "bad")
    moving = told(need for line in lines for need in _line_needs(line))
    back, sequences = told(_went_back(actor)), _sequences(actor)
    pages = [row for row in mine.values() if row.severity == Severity.PAGE]
    tickets = [row for row in mine.values() if row.severity != Severity.PAGE]
    found = [
        *bad,
        *_alert_needs(pages, "page"),
        *moving,
        *map(_review_need, reviews[:MAX_REVIEWS]),
        *_alert_needs(tickets, "ticket"),
        *back,
        *sequences,
    ]
    return sorted(found, key=lambda need: not need.is_urgent)


def quiet_of(others: Sequence[Incident], *, has_needs: bool, is_looked_at: bool) -> Quiet | None:
    """The open alerts that wait for somebody else, in one sentence; None when the list of needs says it all. Without
    ``is_looked_at`` nobody knows whether anything is wrong, so nothing says that nothing is."""
    firing = [row for row in others if is_calling(row)]
    if firing:
        pages = sum(row.severity == Severity.PAGE for row in firing)
        which = f", {pages} of them {_plural(pages, 'a page', 'pages')}" if 0 < pages < len(firing) else ""
        what = _plural(len(firing), "page", "pages") if pages == len(firing) else _alerts(len(firing))
        word = f"{len(firing)} {what} {_plural(len(firing), 'fires', 'fire')}{which}."
        return Quiet("bad" if pages else "attention", word, "Somebody else has to acknowledge.", has_alerts=True)
    if others:
        taken = sum(row.state == IncidentState.ACKNOWLEDGED for row in others)
        parts = [f"{taken} taken on by {_names(others)}"] if taken else []
        parts += [f"{len(others) - taken} silenced"] if taken < len(others) else []
        word = "Nothing waits for you." if is_looked_at and not has_needs else ""
        said = f"{len(others)} {_alerts(len(others))} {_plural(len(others), 'is', 'are')} open: {', '.join(parts)}."
        return Quiet("progressing", word or said, said if word else "", has_alerts=True)
    if has_needs:
        return None
    if not is_looked_at:
        return Quiet("unknown", "Not known.", "Nobody looks whether anything waits for you.")
    return Quiet("ok", "Nothing waits for you, and no alert is open.")


def _alert_needs(rows: Sequence[Incident], severity: str) -> list[Need]:
    """The worst few, and how many more there are."""
    found = [_alert_need(row_of(row)) for row in rows[:MAX_ALERTS]]
    more = len(rows) - len(found)
    if more > 0:
        level = "bad" if severity == Severity.PAGE else "attention"
        title = f"{more} more {_plural(more, severity, severity + 's')}"
        said, url = "nobody looks after them yet.", reverse("incidents:list")
        is_urgent = severity == Severity.PAGE
        found.append(Need(level, f"{severity}, firing", title, said, url, "Open", is_urgent=is_urgent))
    return found


def _alert_need(row: dict[str, Any]) -> Need:
    found: Incident = row["incident"]
    said = f"{row['time_left']} {found.summary}".strip()[:MAX_SENTENCE]
    return Need(
        row["level"], row["word"], found.title, said, reverse("incidents:incident", args=[found.pk]), "Open",
        acknowledge=_acknowledge(found), revision=found.revision, since=found.firing_since,
        is_urgent=found.severity == Severity.PAGE,
    )  # fmt: skip


def _with_alert(need: Need, row: Incident | None) -> Need:
    """The same with the alert of the same fault: since when it is wrong, and how to take it on where the need itself
    has no such way."""
    if row is None:
        return need
    told = replace(need, since=row.firing_since, is_urgent=need.is_urgent or row.severity == Severity.PAGE)
    if need.alert.startswith(ANSWER):  # its alert knows as well whether callers are most likely not served
        told = replace(told, sentence=f"The target does not answer: {row.summary}"[:MAX_SENTENCE])
    if told.acknowledge:
        return told
    return replace(told, acknowledge=_acknowledge(row), revision=row.revision)


def _acknowledge(row: Incident) -> str:
    return reverse("incidents:command", args=[row.pk, ACKNOWLEDGE])


def _review_need(one: Review) -> Need:
    url, said = reverse("reviews:detail", args=[one.pk]), one.request.split("\n", 1)[0][:200]
    return Need("waiting", "", one.title, said, url, "Decide")


def _endpoint_need(line: LineLike) -> Need:
    health, name = line.health, line.endpoint.name
    key = answer_key if health.level == "unknown" else health_key
    return Need(
        health.level, health.word, name, health.sentence, reverse("targets:endpoint", args=[name]), "Look",
        alert=key(line.endpoint.pk), is_urgent=health.level == "bad",
    )  # fmt: skip


def _line_needs(line: LineLike) -> Iterable[Need]:
    """What is not urgent about an endpoint, and what its rollout waits for."""
    # A target that does not answer is no fault that callers meet; whether they do, nobody can see.
    if line.health.level == "attention" or (line.health.level == "unknown" and line.endpoint.observe_error):
        yield _endpoint_need(line)
    if line.rollout is not None and line.rollout.look_error:
        yield _engine_need(line.rollout)
    elif line.rollout is not None and line.rollout.phase in WAITS:
        action = "Decide" if line.rollout.phase != Phase.ROLLING_BACK else "Watch"
        yield _rollout_need(line.rollout, action, RolloutFault.WAITS)


def _went_back(actor: Actor) -> Iterable[Need]:
    for rollout in rollouts_unacknowledged(actor)[:MAX_WENT_BACK]:
        is_theirs = not why_not_at(actor, "rollout.acknowledge", rollout.endpoint)
        url = reverse("rollouts:command", args=[rollout.pk, ACKNOWLEDGE]) if is_theirs else ""
        yield replace(_rollout_need(rollout, "See why", RolloutFault.ENDED), acknowledge=url)


def _sequences(actor: Actor) -> list[Need]:
    """Rollout sequences that go on only when a person says so."""
    found = sequence_list(actor).filter(phase__in=SEQUENCE_WAITS).prefetch_related(None)[:MAX_WENT_BACK]
    return [
        Need(
            "bad" if one.phase == SequencePhase.STOPPED else "attention", one.phase,
            f"{one.candidate_version.semver} in waves", one.reason,
            reverse("rollouts:sequence", args=[one.pk]), "Decide",
        )
        for one in found
    ]  # fmt: skip


def _engine_need(rollout: Rollout) -> Need:
    said = f"The engine fails at it, so no guardrail is judged; traffic stays as it is. {rollout.look_error}"
    return replace(
        _rollout_need(rollout, "Look", RolloutFault.ENGINE), state="unknown", word="engine error", sentence=said
    )


def _rollout_need(rollout: Rollout, action: str, fault: RolloutFault) -> Need:
    key = rollout_key(rollout.pk, fault)
    title = f"{rollout.candidate_version.semver} on {rollout.endpoint.name}"
    page = reverse("rollouts:detail", args=[rollout.pk])
    return Need(rollout.phase, "", title, rollout.reason, page, action, alert=key)


def _names(rows: Iterable[Incident]) -> str:
    """Who looks after them; of many the first two."""
    names = sorted({row.acknowledged_by for row in rows if row.acknowledged_by})
    more = len(names) - 2
    return " and ".join(names) if more <= 0 else f"{', '.join(names[:2])} and {more} more"


def _alerts(count: int) -> str:
    return _plural(count, "alert", "alerts")


def _plural(count: int, one: str, many: str) -> str:
    return one if count == 1 else many
