"""Reads of experiments, their readouts and decisions."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import Count, Q, QuerySet

from apps.accounts.domain.commands import AllowedCommand, command_allowed
from apps.accounts.services.access import scope_q
from apps.experiments.domain.design import Design
from apps.experiments.domain.words import ACTIVE, ARMS, COLLECTING, EDITABLE, ENDED, ReadoutState, Status
from apps.experiments.models import Comparison, Decision, Experiment, Exposure, Fault, Period, Readout
from apps.kernel.actor import Actor
from apps.kernel.clock import now
from apps.kernel.errors import NotFound
from apps.kernel.verdicts import Finding, Verdict

RELATED = ("endpoint__target", "endpoint__model", "control_version__model", "treatment_version__model", "decision")
PLACE = {"team": "endpoint__team", "environment": "endpoint__target__environment"}
"""Lookups from an experiment to where rights hold."""
STUCK_SECONDS = 120
"""A readout that waits longer than this says that no worker takes from the queue."""
_ACTIVE = [status.value for status in ACTIVE]


def experiment_get(experiment_id: str, actor: Actor | None = None) -> Experiment:
    """With endpoint, target, versions and decision, one query; with ``actor`` only one that they may see.
    Raises NotFound."""
    found = experiment_list(actor).filter(pk=experiment_id).first()
    if found is None:
        raise NotFound("experiment_not_found", f"There is no experiment {experiment_id[:40]!r}, or you may not see it.")
    return found


def experiment_list(
    actor: Actor | None = None,
    *,
    endpoint_id: str | None = None,
    status: str | None = None,
    is_active: bool | None = None,
) -> QuerySet[Experiment]:
    """Newest first, with everything a row shows; with ``actor`` those that they may see. ``status`` may name several,
    separated by commas."""
    found = Experiment.objects.select_related(*RELATED).order_by("-created_at", "-pk")
    if actor is not None:
        found = found.filter(scope_q(actor, "experiment.read", **PLACE))
    if endpoint_id is not None:
        found = found.filter(endpoint_id=endpoint_id)
    if status:
        found = found.filter(status__in=status.split(","))
    if is_active is not None:
        found = found.filter(status__in=_ACTIVE) if is_active else found.exclude(status__in=_ACTIVE)
    return found


def design_of(experiment: Experiment) -> Design:
    return Design.from_json(experiment.design)


def periods_of(experiment: Experiment) -> list[Period]:
    """Oldest first."""
    return list(Period.objects.filter(experiment=experiment).order_by("number"))


def readout_get(readout_id: str, actor: Actor | None = None) -> Readout:
    """With its experiment; with ``actor`` only of one that they may see. Raises NotFound."""
    found = Readout.objects.select_related("experiment__endpoint__target").filter(pk=readout_id)
    if actor is not None:
        places = {name: f"experiment__{path}" for name, path in PLACE.items()}
        found = found.filter(scope_q(actor, "experiment.read", **places))
    readout = found.first()
    if readout is None:
        raise NotFound("readout_not_found", f"There is no readout {readout_id[:40]!r}, or you may not see it.")
    return readout


def readout_list(experiment: Experiment) -> QuerySet[Readout]:
    """Every readout of the arms, newest first, waiting and failed ones too, without their inputs."""
    rows = Readout.objects.filter(experiment=experiment, comparison=Comparison.ARMS)
    return rows.defer("inputs").order_by("-requested_at", "-pk")


def looks_of(experiment: Experiment) -> list[Readout]:
    """The looks: readouts of new data, oldest first; what the chart over time is drawn from."""
    return list(_looks(experiment).order_by("number"))


def look_newest(experiment: Experiment) -> Readout:
    """The last of them. Raises Readout.DoesNotExist before the first."""
    return _looks(experiment).latest("number")


def _looks(experiment: Experiment) -> QuerySet[Readout]:
    rows = Readout.objects.filter(
        experiment=experiment, comparison=Comparison.ARMS, state=ReadoutState.DONE, same_as=None
    )
    return rows.defer("inputs")


def readout_latest(experiment: Experiment) -> Readout | None:
    """The newest readout that is done."""
    return readout_list(experiment).filter(state=ReadoutState.DONE).first()


def readout_waiting(experiment: Experiment, comparison: str = Comparison.ARMS) -> Readout | None:
    """The readout that is asked for or being computed, for the progress bar."""
    return (
        Readout.objects.filter(
            experiment=experiment,
            comparison=comparison,
            state__in=[ReadoutState.QUEUED, ReadoutState.COMPUTING],
        )
        .order_by("requested_at")
        .first()
    )


def readouts_latest(experiments: list[Experiment]) -> dict[str, Readout]:
    """The newest readout that is done of each, one query; for lists."""
    rows = Readout.objects.filter(
        experiment__in=experiments, comparison=Comparison.ARMS, state=ReadoutState.DONE
    ).order_by("experiment_id", "-requested_at", "-pk")
    return {row.experiment_id: row for row in rows.distinct("experiment_id").defer("inputs")}


def readouts_newest(experiments: list[Experiment]) -> dict[str, Readout]:
    """The newest readout of each in any state, one query: when one was asked for last, and what became of it."""
    rows = Readout.objects.filter(experiment__in=experiments, comparison=Comparison.ARMS)
    rows = rows.order_by("experiment_id", "-requested_at", "-pk").distinct("experiment_id")
    return {row.experiment_id: row for row in rows.defer("inputs", "result")}


def decision_of(experiment: Experiment) -> Decision | None:
    """Without a query where ``experiment`` comes from a selector here."""
    return getattr(experiment, "decision", None)


def exposure_counts(experiment: Experiment) -> dict[str, int]:
    """Units per arm that count, and those that count for none: ``two_arms``, ``misrouted``."""
    if experiment.raw_dropped_at is not None:
        return {name: int(experiment.raw_counts[name]) for name in (*ARMS, "two_arms", "misrouted")}
    rows = Exposure.objects.filter(experiment=experiment).values("arm", "fault").annotate(units=Count("id"))
    names = {Fault.TWO_ARMS: "two_arms", Fault.MISROUTED: "misrouted"}
    found = dict.fromkeys((*ARMS, *names.values()), 0)
    for row in rows.order_by():
        found[names.get(Fault(row["fault"]), ARMS[row["arm"]])] += row["units"]
    return found


def readouts_late(at: datetime | None = None) -> QuerySet[Readout]:
    """Asked for, and nobody has begun or ended them in time; oldest first."""
    before = (at or now()) - timedelta(seconds=STUCK_SECONDS)
    return Readout.objects.filter(
        Q(state=ReadoutState.QUEUED, requested_at__lt=before) | Q(state=ReadoutState.COMPUTING, started_at__lt=before)
    ).order_by("requested_at")


def queue_condition(at: datetime | None = None) -> Finding | None:
    """Verdict ERROR when readouts wait and nobody computes them; evidence: ``since``, ``waiting``."""
    late = readouts_late(at)
    oldest = late.first()
    if oldest is None:
        return None
    waiting = late.count()
    sentence = (
        f"{waiting} readout{'s wait' if waiting > 1 else ' waits'} since {oldest.requested_at:%Y-%m-%d %H:%M} UTC and "
        "none is computed: is a worker running that takes from the queue analysis?"
    )
    return Finding(Verdict.ERROR, sentence, {"since": oldest.requested_at, "waiting": waiting})


def allowed_commands(experiment: Experiment) -> list[AllowedCommand]:
    """Every command with whether the status allows it and the sentence why not. Rights are the caller's to add."""
    status = Status(experiment.status)
    is_managed = bool(experiment.managed_by)
    editable = "" if status in EDITABLE else f"The design is fixed once it has started; it is {status}."
    rules: dict[str, tuple[str, str]] = {
        "revise": ("experiment.write", editable),
        "plan": ("experiment.write", editable),
        "start": ("experiment.start", "" if status is Status.PLANNED else f"Plan it first; it is {status}."),
        "stop": ("experiment.stop", "" if status in ACTIVE else f"Nothing runs; it is {status}."),
        "extend": ("experiment.extend", "" if status in COLLECTING else f"Only what runs is extended; it is {status}."),
        "read": ("experiment.read", "" if status in COLLECTING | ENDED else f"There is no data yet; it is {status}."),
        "decide": (
            "experiment.decide",
            "" if status in COLLECTING | {Status.STOPPED} else f"There is nothing to decide; it is {status}.",
        ),
    }
    if is_managed:
        sentence = f"The {experiment.managed_by.replace(':', ' ')} runs this experiment as a step: act there."
        rules |= {name: (rules[name][0], sentence) for name in ("start", "stop", "extend", "decide")}
    return [command_allowed(name, action, reason) for name, (action, reason) in rules.items()]
