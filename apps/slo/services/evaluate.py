"""Every ten seconds: how do the objectives stand? States are written, and alerts told, only when something changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Final

from django.db import transaction
from django.db.models import F

from apps.alerts.services.incidents import Observation, State, incidents_clear, incidents_observe
from apps.kernel.clock import now
from apps.kernel.services.outbox import publish_live
from apps.kernel.verdicts import Verdict
from apps.slo.domain.board import Board, Verdicts
from apps.slo.domain.objective import Kind
from apps.slo.domain.policy import Severity
from apps.slo.domain.state import differs, shown, span, standing_of, times
from apps.slo.models import Burn, Objective
from apps.slo.services.objectives import SOURCE, key_of, objectives_seed
from apps.slo.services.watch import Watched, due_list, series_read, watched_list

SHOWN = ("verdict", "reason", "tiers", "firing", "total", "bad", "remaining", "exhausts_in", "newest_at")


SETTLED: Final = frozenset({Verdict.NO_DATA.value, Verdict.ERROR.value})
"""Without news these read the same at the next tick; any other verdict grows old with the windows."""


@dataclass(slots=True)
class Memory:
    """What a worker process keeps between ticks; losing it costs reading it again. A clock that was set back would
    leave it ahead of its time, so it is lost then too."""

    board: Board | None = None
    seen: dict[str, float] = field(default_factory=dict)
    at: float = 0.0

    def board_for(self, watched: Sequence[Watched], moment: float) -> Board:
        if moment < self.at:
            self.board, self.seen = None, {}
        self.at = moment
        days = max((one.spec.period_days for one in watched), default=30)
        used = len({one.series for one in watched})
        if self.board is None or self.board.period_days < days or len(self.board.rows) > 2 * used + 100:
            self.board = Board(days)
        self.board.advance(moment)
        return self.board


_MEMORY = Memory()


def objectives_evaluate(memory: Memory | None = None) -> int:
    """One tick; returns how many states were written. Any number of workers may do this at once: they compute the same,
    and each row is written by whoever locks it first."""
    memory = memory or _MEMORY
    objectives_seed()
    moment = now().timestamp()
    watched = watched_list()
    known = list(Burn.objects.values_list("objective_id", "variant", "firing", "verdict"))
    written = _sweep(watched, [(objective_id, variant) for objective_id, variant, *_ in known])
    board = memory.board_for(watched, moment)
    settled = {
        (objective_id, variant) for objective_id, variant, firing, verdict in known if not firing and verdict in SETTLED
    }
    due = due_list(watched, board, memory.seen, settled, moment)
    faults = series_read(board, [one.series for one in due], moment)
    readable = [one for one in due if one.series in board.rows and one.series not in faults]
    verdicts = board.judge([(one.series, one.spec) for one in readable], moment)
    judged: list[tuple[Watched, Verdicts | str]] = list(zip(readable, verdicts, strict=True))
    judged += [(one, faults[one.series]) for one in due if one.series in faults]
    stored = _stored([one for one, _ in judged])
    judged.sort(key=lambda pair: pair[0].objective.endpoint_id)
    for _, items in groupby(judged, key=lambda pair: pair[0].objective.endpoint_id):
        written += _settle([(one, found, stored.get(one.key)) for one, found in items], moment)
    return written


def _stored(watched: Sequence[Watched]) -> dict[tuple[str, str], Burn]:
    ids = {one.objective.pk for one in watched}
    return {(burn.objective_id, burn.variant): burn for burn in Burn.objects.filter(objective_id__in=ids)}


def _settle(items: Sequence[tuple[Watched, Verdicts | str, Burn | None]], moment: float) -> int:
    """Write what reads differently at one endpoint, in one transaction: states, alerts, a frame for open pages."""
    news = [
        (one, fresh, burn)
        for one, found, burn in items
        if (fresh := _fresh(one, found, burn, moment)) is not None
        and (burn is None or differs({name: getattr(burn, name) for name in SHOWN}, fresh))
    ]
    if not news:
        return 0
    wanted = {one.objective.pk: one.objective.revision for one, _, _ in news}
    with transaction.atomic():
        rows = Objective.objects.select_for_update(skip_locked=True, of=("self",)).filter(pk__in=wanted)
        mine = {pk for pk, revision in rows.values_list("pk", "revision") if revision == wanted[pk]}
        told = []
        for one, fresh, burn in news:
            if one.objective.pk in mine:
                told += _write(one, fresh, burn, moment)
        if mine:
            endpoint_id = news[0][0].objective.endpoint_id
            publish_live(f"slo:{endpoint_id}", id=endpoint_id, revision=int(moment * 1000))
        if told:
            incidents_observe(told)  # last: it takes the audit log's lock
    return sum(one.objective.pk in mine for one, _, _ in news)


def _fresh(one: Watched, found: Verdicts | str, burn: Burn | None, moment: float) -> dict[str, Any]:
    """The columns as they should be. Where telemetry could not be read everything but the verdict stays as it was."""
    if isinstance(found, str):
        kept = {name: getattr(burn, name) for name in SHOWN} if burn is not None else _EMPTY
        return {**kept, "verdict": Verdict.ERROR.value, "reason": f"What was counted cannot be read: {found}."}
    was_firing = list(burn.firing) if burn is not None else []
    standing = standing_of(one.spec, found.seen, found.period, was_firing, found.newest_at, moment)
    return shown(standing)


_EMPTY: dict[str, Any] = {
    "tiers": [], "firing": [], "total": 0, "bad": 0, "remaining": None, "exhausts_in": None, "newest_at": None
}  # fmt: skip


def _write(one: Watched, fresh: dict[str, Any], burn: Burn | None, moment: float) -> list[Observation]:
    """The row, and what is to be told of it: nothing while nothing is on and nothing was, or where another worker wrote
    it since ``burn`` was read."""
    at = datetime.fromtimestamp(moment, UTC)
    is_new = burn is None
    if burn is None:
        burn, _ = Burn.objects.get_or_create(
            objective=one.objective, variant=one.variant, defaults={"computed_at": at, "changed_at": at}
        )
    was_firing = list(burn.firing)
    changes: dict[str, Any] = {**fresh, "computed_at": at}
    if is_new or burn.verdict != fresh["verdict"]:
        changes["changed_at"] = at
    if bool(was_firing) != bool(fresh["firing"]):
        changes["firing_since"] = at if fresh["firing"] else None
    if Burn.objects.filter(pk=burn.pk, revision=burn.revision).update(revision=F("revision") + 1, **changes) != 1:
        return []
    if not was_firing and not fresh["firing"]:
        return []
    return [observation_of(one, fresh)]


def observation_of(one: Watched, fresh: dict[str, Any]) -> Observation:
    """What alerts are told: one fault per objective (and version), its tiers are states of it."""
    objective, endpoint = one.objective, one.objective.endpoint
    on = [tier for tier in fresh["tiers"] if tier["is_firing"]]
    severity = next((each.value for each in Severity if each in {tier["severity"] for tier in on}), None)
    where = f" ({one.variant})" if one.variant else ""
    what = "is over its limit" if one.spec.kind is Kind.PERCENTILE else "burns its error budget"
    return Observation(
        key=key_of(objective.pk, one.variant),
        source=SOURCE,
        team_id=objective.team_id,
        environment=endpoint.target.environment,
        subject_type="endpoint",
        subject_id=endpoint.pk,
        subject_name=endpoint.name,
        severity=severity,
        title=f"{endpoint.name}{where}: {objective.name} {what}",
        summary=fresh["reason"],
        facts={
            "seconds_to_exhaustion": fresh["exhausts_in"],
            "budget_remaining": fresh["remaining"],
            "objective": one.spec.sentence,
            "burn": max((tier["long_burn"] or 0.0 for tier in on), default=None),
            **({"variant": one.variant} if one.variant else {}),
        },
        states=[
            State(tier["name"], tier["severity"], tier["is_firing"], tier_sentence(tier)) for tier in fresh["tiers"]
        ],
        link=f"/endpoints/{endpoint.name}/objectives/",
        runbook_url=objective.runbook_url,
    )


def tier_sentence(tier: dict[str, Any]) -> str:
    """``1 h: 20.3 times the budget's pace, 5 min: 41.2 times; above 14.4 times pages``."""
    long, short = span(tier["long_seconds"]), span(tier["short_seconds"])
    what = "pages" if tier["severity"] == Severity.PAGE else "opens a ticket"
    if tier["long_seconds"] == tier["short_seconds"]:
        return f"{long}: {_times(tier['long_burn'])} of what is allowed; above it {what}"
    text = f"{long}: {_times(tier['long_burn'])} the budget's pace, {short}: {_times(tier['short_burn'])}"
    return f"{text}; above {_times(tier['factor'])} {what}"


def _times(burn: float | None) -> str:
    return "no request" if burn is None else f"{times(burn)} time{'' if burn == 1 else 's'}"


def _sweep(watched: Sequence[Watched], known: Sequence[tuple[str, str]]) -> int:
    """States of versions that are gone, and of endpoints that were removed: they go, and their alerts are closed."""
    live = {one.key for one in watched}
    gone: dict[str, list[str]] = defaultdict(list)
    for objective_id, variant in known:
        if (objective_id, variant) not in live:
            gone[objective_id].append(variant)
    for objective_id, variants in gone.items():
        with transaction.atomic():
            Burn.objects.filter(objective_id=objective_id, variant__in=variants).delete()
            incidents_clear(source=SOURCE, keys=[key_of(objective_id, variant) for variant in variants])
    return sum(map(len, gone.values()))
