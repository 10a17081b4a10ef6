"""Seeing a rollout sequence: its row, its members' rollouts and endpoints; reads only, no driver is called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from apps.kernel.actor import ANY, Actor
from apps.kernel.clock import now
from apps.rollouts.domain.machine import ACTIVE, Phase, word_of
from apps.rollouts.domain.sequence import (
    SEQUENCE_ACTIVE,
    Hold,
    MemberSeen,
    Obstacle,
    SequenceMemo,
    SequencePhase,
    SequenceSeen,
    SequenceState,
)
from apps.rollouts.domain.sequence_decide import sequence_decide, sequence_remember
from apps.rollouts.domain.waves import SequencePlan
from apps.rollouts.models import Rollout, RolloutSequence, SequenceMember, Transition
from apps.rollouts.services.sequence_watch import Watch, members_watched
from apps.targets.domain.driver import VariantState
from apps.targets.selectors import freeze_active, observed_of

_ACTIVE = [phase.value for phase in ACTIVE]
WATCHED = frozenset({SequencePhase.RUNNING, SequencePhase.BAKING, SequencePhase.WAITING, SequencePhase.PAUSED})
"""Phases in which what is through is watched: a stopped sequence is with people, one that goes back goes back."""


@dataclass(frozen=True, slots=True)
class SequenceLook:
    """One sequence as it was seen: its row, its members' rows by endpoint id, and what ``decide`` gets."""

    sequence: RolloutSequence
    members: Mapping[str, SequenceMember]
    state: SequenceState
    seen: SequenceSeen


def sequence_actor(sequence: RolloutSequence) -> Actor:
    """In whose name members begin and are commanded: the system's, for the people who started the sequence.

    Its label is the sequence's own: a pause with it in a rollout's log is ours and nobody else's.
    """
    return Actor(
        kind="system",
        id="pilothouse",
        label=f"sequence {sequence.pk}, started by {sequence.created_by}"[:200],
        actions=frozenset({ANY}),
        chain=(*sequence.starter_chain, f"sequence:{sequence.pk}"),
        people=frozenset(sequence.starters),
    )


def sequence_look(sequence: RolloutSequence) -> SequenceLook:
    """A handful of queries, whatever the number of members, and two more for each that could begin now."""
    members = list(sequence.members.select_related("rollout", "back", "endpoint__target", "endpoint__stable_version"))
    state = _state_of(sequence)
    marks = _marks(sequence, members)
    moment = now()
    watch = Watch()
    if state.phase in WATCHED:
        watch = members_watched(state, members, sequence.candidate_version.variant_key, moment.timestamp())
    seen = SequenceSeen(moment.timestamp(), tuple(_member(one, sequence, state, marks, watch) for one in members))
    return SequenceLook(sequence, {one.endpoint_id: one for one in members}, sequence_remember(state, seen), seen)


def _state_of(sequence: RolloutSequence) -> SequenceState:
    return SequenceState(
        id=sequence.pk,
        phase=SequencePhase(sequence.phase),
        wave=sequence.wave,
        revision=sequence.revision,
        plan=SequencePlan.from_json(sequence.plan),
        phase_started_at=sequence.phase_started_at.timestamp(),
        memo=SequenceMemo.from_json(sequence.memo),
    )


@dataclass(frozen=True, slots=True)
class _Marks:
    """Rollout ids: ``newer`` attempt of each, ``ours`` paused last by this sequence, ``held`` by it in this phase."""

    newer: Mapping[str, str] = field(default_factory=dict)
    ours: frozenset[str] = frozenset()
    held: frozenset[str] = frozenset()
    busy: Mapping[str, str] = field(default_factory=dict)


def _marks(sequence: RolloutSequence, members: Iterable[SequenceMember]) -> _Marks:
    rows = [one.rollout for one in members if one.rollout is not None]
    label = sequence_actor(sequence).label
    paused = [row.pk for row in rows if row.phase == Phase.PAUSED]
    newer = dict(
        Rollout.objects.filter(retry_of__in=[row.pk for row in rows if row.phase not in ACTIVE])
        .order_by("created_at", "pk")
        .values_list("retry_of_id", "pk")
    )
    pauses = Transition.objects.filter(rollout_id__in=paused, action="Pause").order_by("id")
    last = dict(pauses.values_list("rollout_id", "actor_label"))  # the newest of each stays
    held = Transition.objects.filter(
        rollout_id__in=[row.pk for row in rows],
        action="Pause",
        actor_label=label,
        at__gte=sequence.phase_started_at,
    ).values_list("rollout_id", flat=True)
    busy = {
        row.endpoint_id: f"{row.pk} ({word_of(row.phase)})"
        for row in Rollout.objects.filter(endpoint_id__in=[one.endpoint_id for one in members], phase__in=_ACTIVE)
    }
    return _Marks(
        {old: new for old, new in newer.items() if old},
        frozenset(pk for pk, who in last.items() if who == label),
        frozenset(held),
        busy,
    )


def _member(
    member: SequenceMember, sequence: RolloutSequence, state: SequenceState, marks: _Marks, watch: Watch
) -> MemberSeen:
    endpoint, rollout, back = member.endpoint, member.rollout, member.back
    is_serving = endpoint.stable_version_id == sequence.candidate_version_id and endpoint.removed_at is None
    is_open = rollout is None or rollout.phase not in ACTIVE
    is_watched = is_serving and state.phase in WATCHED and rollout is not None and rollout.phase == Phase.PROMOTED
    could_begin = state.phase == SequencePhase.RUNNING and member.wave <= state.wave and is_open and not is_serving
    return MemberSeen(
        member=member.endpoint_id,
        endpoint=endpoint.name,
        rollout=rollout.pk if rollout else "",
        phase=Phase(rollout.phase) if rollout else None,
        reason=rollout.reason if rollout else "",
        finished_at=rollout.finished_at.timestamp() if rollout and rollout.finished_at else None,
        is_serving=is_serving,
        serves=endpoint.stable_version.semver if endpoint.stable_version else "",
        trouble=(_trouble(member, sequence) or watch.error) if is_serving else "",
        obstacle=_obstacle(member, marks) if could_begin else None,
        newer=marks.newer.get(rollout.pk, "") if rollout else "",
        is_ours=rollout is not None and rollout.pk in marks.ours,
        was_held=rollout is not None and rollout.pk in marks.held,
        back=back.pk if back else "",
        back_phase=Phase(back.phase) if back else None,
        back_reason=back.reason if back else "",
        left=member.left,
        failing=watch.failing.get(member.endpoint_id, ()) if is_watched else (),
        unready=_unready(member, sequence) if is_watched else "",
        grace_seconds=float(member.plan.get("unready_grace_seconds", 0)),
    )


def _unready(member: SequenceMember, sequence: RolloutSequence) -> str:
    """That the version is not ready at an endpoint that is through, in numbers; "" when it is, and when nobody knows:
    a target that does not answer proves nothing about what it runs."""
    endpoint, version = member.endpoint, sequence.candidate_version
    observed = None if endpoint.observe_error or endpoint.target.probe_error else observed_of(endpoint)
    variant = observed.variant(version.variant_key) if observed else None
    if variant is None or (variant.ready_replicas and variant.state in {VariantState.READY, VariantState.STARTING}):
        return ""  # fewer than desired is an autoscaler's daily bread; none at all is not
    count = f"{variant.ready_replicas} of {variant.desired_replicas} replicas ready"
    return f"{version.semver} is {variant.state.value}, {count}{f' ({variant.reason})' if variant.reason else ''}"


def _trouble(member: SequenceMember, sequence: RolloutSequence) -> str:
    """What is wrong at an endpoint that serves the version; "" when its target answers and it is ready."""
    endpoint = member.endpoint
    if endpoint.observe_error or endpoint.target.probe_error:
        return f"target {endpoint.target.name} does not answer: {endpoint.observe_error or endpoint.target.probe_error}"
    observed, version = observed_of(endpoint), sequence.candidate_version
    variant = observed.variant(version.variant_key) if observed else None
    if variant is None:
        return f"{version.semver} was not seen running there yet"
    if variant.state is not VariantState.READY:
        return f"{version.semver} is {variant.state.value}{f' ({variant.reason})' if variant.reason else ''}"
    return ""


def _obstacle(member: SequenceMember, marks: _Marks) -> Obstacle | None:
    """What can be told without asking the target; the start itself looks closer."""
    endpoint = member.endpoint
    if endpoint.removed_at is not None:
        return Obstacle("the endpoint was removed", is_passing=False)
    planned, stable = str(member.plan["extra"].get("stable", "")), endpoint.stable_version
    serves = f"{stable.semver} {stable.artifact_digest}" if stable else ""
    if serves != planned:
        was, now_there = (text.partition(" ")[0] or "nothing" for text in (planned, serves))
        return Obstacle(f"it serves {now_there} by now; the plan is over {was}", is_passing=False)
    if endpoint.pk in marks.busy:
        return Obstacle(f"it is busy with {marks.busy[endpoint.pk]}", is_passing=True)
    freeze = freeze_active(endpoint, now())
    if freeze is not None:
        return Obstacle(f"a freeze window is open until {freeze.ends_at:%Y-%m-%d %H:%M} UTC: {freeze.reason}", True)
    return None


def sequence_current(row: RolloutSequence) -> str:
    """What the sequence waits for right now; the row keeps the words of the last change. Nothing is written."""
    if row.look_error or row.phase not in SEQUENCE_ACTIVE:
        return row.reason
    look = sequence_look(row)
    action = sequence_decide(look.state, look.seen)
    return action.reason if isinstance(action, Hold) else row.reason
