"""Decisions: what a readout says becomes what is done, by a person with a reason, or at once where harm is sure."""

from __future__ import annotations

from django.db import transaction

from apps.experiments.domain.words import COLLECTING, ReadoutState, Status
from apps.experiments.models import Decision, Experiment, Readout
from apps.experiments.selectors import design_of, experiment_get, readout_latest
from apps.experiments.services.lifecycle import experiment_end
from apps.experiments.services.managed import managed_refuse
from apps.experiments.services.record import decision_write, where
from apps.experiments.services.scope import experiment_require
from apps.kernel.actor import SYSTEM, Actor
from apps.kernel.errors import Conflict, InvalidInput
from apps.kernel.stats.decision import DecisionKind

FINAL = frozenset({DecisionKind.SHIP, DecisionKind.ROLL_BACK, DecisionKind.STOP_INCONCLUSIVE})
"""What an experiment can end in; to keep running and to be blocked are no ends."""
REASON_MAX = 2000


def experiment_decide(*, actor: Actor, experiment_id: str, kind: str, readout_id: str, reason: str = "") -> Decision:
    """End the experiment with a decision made from one readout, the newest: ship, roll_back or stop_inconclusive.

    A decision that is not what the readout says is an override: it needs a reason and is marked. Traffic goes back to
    the stable version; what is shipped is then rolled out. Raises NotFound, Forbidden, InvalidInput (/kind, /reason),
    Conflict ``stale_readout`` and ``wrong_status``.
    """
    experiment = experiment_require(actor, "experiment.decide", experiment_id)
    managed_refuse(experiment, "promote it, roll it back or let its readouts decide")
    if kind not in {one.value for one in FINAL}:
        raise InvalidInput.at("/kind", "unknown", f"kind is one of {', '.join(sorted(one.value for one in FINAL))}.")
    if experiment.status not in COLLECTING | {Status.STOPPED}:
        raise Conflict(
            "wrong_status", f"There is nothing to decide; it is {experiment.status}.", extra=where(experiment)
        )
    readout = readout_latest(experiment)
    if readout is None or readout.state != ReadoutState.DONE:
        raise Conflict("no_readout", "Nothing was read yet: have it computed first.", extra=where(experiment))
    if readout_id not in {readout.pk, readout.same_as_id}:
        raise Conflict(
            "stale_readout",
            "There is a newer readout than the one you decide from; look at it first.",
            extra={"readout": readout.pk},
        )
    is_override = readout.kind != kind
    if is_override and not reason.strip():
        raise InvalidInput.at(
            "/reason", "required", f"The numbers say {words(readout.kind)}: say why you decide otherwise."
        )
    if len(reason) > REASON_MAX:
        raise InvalidInput.at("/reason", "too_long", f"reason has at most {REASON_MAX:,} characters.")
    with transaction.atomic():
        _store(actor, experiment, readout, DecisionKind(kind), reason.strip())
    return Decision.objects.select_related("readout", "experiment").get(experiment_id=experiment_id)


def decision_follow(experiment: Experiment, look: Readout) -> None:
    """Where harm is sure (a guardrail, the primary metric) and the design says so: end it at once."""
    if look.kind != DecisionKind.ROLL_BACK or experiment.status not in COLLECTING:
        return
    if experiment.managed_by or not design_of(experiment).stop_on_harm:
        return
    with transaction.atomic():
        _store(
            SYSTEM, experiment_get(experiment.pk), look, DecisionKind.ROLL_BACK, "the design ends it where harm is sure"
        )


def _store(actor: Actor, experiment: Experiment, readout: Readout, kind: DecisionKind, reason: str) -> None:
    row = decision_write(experiment, readout, kind, reason=reason, decided_by=actor.label)
    note = f"{words(kind.value)}: {reason or '; '.join(row.reasons)}"
    experiment_end(experiment, Status.DECIDED, actor=actor, verb="experiment.decided", note=note)


_WORDS = {
    DecisionKind.SHIP: "ship",
    DecisionKind.ROLL_BACK: "roll back",
    DecisionKind.KEEP_RUNNING: "keep running",
    DecisionKind.STOP_INCONCLUSIVE: "stop, inconclusive",
    DecisionKind.BLOCKED: "blocked",
}


def words(kind: str) -> str:
    """A decision as people say it."""
    return _WORDS[DecisionKind(kind)]
