"""Planning, starting and commanding rollout sequences. One door for pages, API, CLI and CI."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from django.db import transaction

from apps.audit.services.record import event_record
from apps.kernel.actor import Actor
from apps.kernel.clock import now
from apps.kernel.errors import Conflict, FieldError, InvalidInput, PolicyRefused
from apps.kernel.services.outbox import enqueue_task, publish_live
from apps.rollouts.domain.machine import word_of
from apps.rollouts.domain.plan import GateSpec, Step, StepKind
from apps.rollouts.domain.sequence import (
    SEQUENCE_ACTIVE,
    Hold,
    SequenceCommand,
    SequencePhase,
    SequenceRequest,
)
from apps.rollouts.domain.sequence_decide import sequence_decide, sequence_refusal
from apps.rollouts.domain.strategies import STANDARD
from apps.rollouts.domain.waves import OnFailure, Place, SequencePlan, Wave, WaveAsked, waves_errors
from apps.rollouts.models import RolloutSequence, SequenceMember
from apps.rollouts.selectors import sequence_get
from apps.rollouts.services.checks import Check, Level
from apps.rollouts.services.lifecycle import ATTEMPTS, starters_of
from apps.rollouts.services.plan import RolloutPlan, plan_expect, plan_refuse, rollout_plan
from apps.rollouts.services.scope import rollout_require
from apps.rollouts.services.sequence_look import sequence_look
from apps.rollouts.services.sequence_members import is_passing
from apps.rollouts.services.sequence_record import sequence_record, sequence_title
from apps.targets.services.scope import endpoint_require

if TYPE_CHECKING:  # names for the reader and mypy; another app's models are not ours to query
    from apps.registry.models import ModelVersion
    from apps.targets.models import Endpoint

RIGHTS = {
    SequenceCommand.PAUSE: "rollout.pause",
    SequenceCommand.RESUME: "rollout.resume",
    SequenceCommand.CONTINUE: "rollout.resume",
    SequenceCommand.ABORT: "rollout.abort",
}
"""What one must be allowed to do at every endpoint of the sequence."""


@dataclass(frozen=True, slots=True)
class PlannedMember:
    """One member's own dry run; ``checks`` are its checks as they count for its wave."""

    wave: int
    planned: RolloutPlan
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class PlannedSequence:
    """The answer of a dry run of the whole."""

    version: ModelVersion
    plan: SequencePlan
    members: tuple[PlannedMember, ...]

    @property
    def plan_hash(self) -> str:
        return self.plan.plan_hash

    @property
    def blocks(self) -> list[tuple[PlannedMember, Check]]:
        return [(one, check) for one in self.members for check in one.checks if check.level is Level.BLOCK]

    @property
    def is_startable(self) -> bool:
        return not self.blocks


def sequence_plan(
    *,
    actor: Actor,
    version_id: str,
    waves: Sequence[WaveAsked],
    strategy: str,
    profile: str = STANDARD,
    steps: Sequence[Step] | None = None,
    guardrails: Sequence[GateSpec] | None = None,
    approval: Step | None = None,
    experiment: Step | None = None,
    on_failure: str = OnFailure.STOP.value,
    max_concurrent: int | None = None,
    approve_once: bool = False,
) -> PlannedSequence:
    """Dry run of every member: reads the artifact and asks every target, so not in a transaction. Writes nothing.

    ``approve_once``: one review of the whole plan answers the approval steps of every member.

    Raises NotFound, Forbidden (``rollout.plan`` at every endpoint), InvalidInput at /waves, /max_concurrent,
    /on_failure, /approve_once, and what ``rollout_plan`` raises.
    """
    errors = waves_errors(waves, max_concurrent)
    if on_failure not in set(OnFailure):
        said = f"{on_failure!r} is none of {', '.join(OnFailure)}."
        errors.append(FieldError("/on_failure", "unknown", said))
    if errors:
        raise InvalidInput("invalid_waves", " ".join(error.detail for error in errors), fields=tuple(errors))
    places = [(index, endpoint_require(actor, "rollout.plan", name)) for index, name in _named(waves)]
    _require_once(waves, [endpoint for _, endpoint in places])
    elsewhere = _elsewhere([endpoint.pk for _, endpoint in places])
    members = []
    for wave, endpoint in places:
        planned = rollout_plan(
            actor=actor, endpoint_id=endpoint.pk, version_id=version_id, strategy=strategy, profile=profile,
            steps=steps, guardrails=guardrails, approval=approval, experiment=experiment,
        )  # fmt: skip
        checks = tuple(_for_wave(check, wave, endpoint) for check in planned.checks)
        other = elsewhere.get(endpoint.pk)
        members.append(PlannedMember(wave, planned, (*checks, *_also_in(endpoint, other))))
    version = members[0].planned.candidate
    plan = SequencePlan(
        tuple(_pinned(waves, members)),
        version.semver,
        version.artifact_digest,
        OnFailure(on_failure),
        max_concurrent,
        approve_once,
    )
    if approve_once:
        _require_one_question(members)
    return PlannedSequence(version, plan, tuple(members))


def sequence_start(
    *,
    actor: Actor,
    planned: PlannedSequence,
    expected_plan_hash: str | None = None,
    note: str = "",
) -> RolloutSequence:
    """Accept what ``sequence_plan`` made a moment ago; the first members begin with its first look.

    Raises Forbidden (``rollout.start`` at every endpoint), InvalidInput, PolicyRefused and Conflict as for a rollout,
    Conflict ``plan_changed``.
    """
    for one in planned.members:
        endpoint_require(actor, "rollout.start", one.planned.endpoint.pk)
    for one in planned.members:
        plan_refuse(replace(one.planned, checks=one.checks))
    plan_expect(planned.plan_hash, expected_plan_hash)
    starters = sorted({person for one in planned.members for person in starters_of(actor, one.planned.plan)})
    with transaction.atomic():
        row = _create(actor, planned, note, starters)
        publish_live(f"sequence:{row.pk}", id=row.pk, revision=row.revision)
        enqueue_task("rollouts.sequence_tick", sequence_id=row.pk)
        event_record(
            actor=actor,
            verb="sequence.created",
            subject_kind="sequence",
            subject_id=row.pk,
            subject_label=sequence_title(row),
            detail={"plan_hash": row.plan_hash, "plan": row.plan, "note": note},
        )
    return sequence_get(row.pk)


def sequence_command(
    *,
    actor: Actor,
    sequence_id: str,
    command: str,
    expected_revision: int | None = None,
    reason: str = "",
    is_whole: bool = False,
) -> RolloutSequence:
    """Carry out pause, resume, continue or abort; returns the sequence as it is then.

    ``is_whole`` (abort): members that are through go back too, the newest first. abort looks at no revision and is
    repeated until it wins. Raises NotFound, Forbidden (the right at every endpoint), InvalidInput, Conflict
    (``stale_revision``; the phase's own refusals), PolicyRefused.
    """
    if command not in set(SequenceCommand):
        raise InvalidInput.at("/command", "unknown_command", f"{command!r} is no command of a sequence.")
    asked = SequenceCommand(command)
    row = sequence_get(sequence_id, actor)
    for right in {RIGHTS[asked], *(["rollout.roll_back"] if is_whole else [])}:
        for member in row.members.all():
            rollout_require(actor, right, member)
    is_safe = asked is SequenceCommand.ABORT
    if not is_safe and expected_revision is None:
        raise InvalidInput.at("/expected_revision", "required", "Say which revision you saw.")
    if asked is SequenceCommand.CONTINUE and row.phase == SequencePhase.BAKING and not reason.strip():
        raise InvalidInput.at("/reason", "required", "Continuing now skips what is left of the bake: say why.")
    request = SequenceRequest(asked, actor.label, reason, is_whole)
    for _ in range(ATTEMPTS if is_safe else 1):
        row = sequence_get(sequence_id)
        if not is_safe and row.revision != expected_revision:
            raise _stale(row)
        look = sequence_look(row)
        refusal = sequence_refusal(look.state, asked)
        if refusal is not None:
            raise refusal
        look = replace(look, seen=replace(look.seen, request=request))
        action = sequence_decide(look.state, look.seen)
        if isinstance(action, Hold):
            if is_safe:
                return row  # it is on its way back already
            raise PolicyRefused(f"{command}_refused", action.reason, extra=_where(row))
        if sequence_record(look, action, actor=actor) is not None:
            return sequence_get(sequence_id)
    raise _stale(sequence_get(sequence_id))


def _pinned(waves: Sequence[WaveAsked], members: Sequence[PlannedMember]) -> Iterator[Wave]:
    """The waves with the hash of every member's plan; behind the last there is nothing to wait for."""
    for index, wave in enumerate(waves):
        places = tuple(
            Place(one.planned.endpoint.pk, one.planned.endpoint.name, one.planned.plan_hash)
            for one in members
            if one.wave == index
        )
        yield Wave(places, 0 if index == len(waves) - 1 else wave.bake_seconds)


def _require_one_question(members: Sequence[PlannedMember]) -> None:
    """One review has one team and one environment, whose people may decide: members elsewhere are not theirs."""
    if not any(step.kind is StepKind.APPROVAL for one in members for step in one.planned.plan.steps):
        raise InvalidInput.at(
            "/approve_once", "nobody_asked", "Nobody is asked in this plan: say how many must approve, or leave it out."
        )
    places = {(one.planned.endpoint.team_id, one.planned.endpoint.target.environment) for one in members}
    if len(places) > 1:
        environments = ", ".join(sorted({environment for _, environment in places}))
        raise InvalidInput.at(
            "/approve_once",
            "several_places",
            f"One approval is for one team and one environment; these endpoints are in several ({environments}). Ask "
            "at each, or start a sequence for each.",
        )


def _named(waves: Sequence[WaveAsked]) -> Iterator[tuple[int, str]]:
    for index, wave in enumerate(waves):
        for name in wave.endpoints:
            yield index, name


def _require_once(waves: Sequence[WaveAsked], endpoints: Sequence[Endpoint]) -> None:
    """An endpoint named once by its name and once by its id is named twice."""
    seen: set[str] = set()
    for endpoint in endpoints:
        if endpoint.pk in seen:
            raise InvalidInput.at(
                "/waves", "named_twice", f"{endpoint.name} is named twice; an endpoint is in one wave."
            )
        seen.add(endpoint.pk)


def _for_wave(check: Check, wave: int, endpoint: Endpoint) -> Check:
    """What is so only now does not block a later wave; every check says which endpoint it is about."""
    pointer = f"/waves/{wave}/endpoints" if check.pointer in {"/endpoint", "/supersede"} else check.pointer
    detail = check.detail if endpoint.name in check.detail else f"{endpoint.name}: {check.detail}"
    if check.code == "endpoint_busy":
        detail = f"{endpoint.name} is busy with {check.extra['rollout']}: wait for its end, or abort it."
    if wave > 0 and check.level is Level.BLOCK and is_passing(check):
        return replace(check, level=Level.WARN, detail=f"{detail} Wave {wave + 1} waits for it.", pointer=pointer)
    return replace(check, detail=detail, pointer=pointer)


def _elsewhere(endpoint_ids: Sequence[str]) -> dict[str, str]:
    """Endpoint id -> an active sequence that names it too."""
    rows = SequenceMember.objects.filter(
        endpoint_id__in=endpoint_ids, sequence__phase__in=[phase.value for phase in SEQUENCE_ACTIVE]
    )
    return dict(rows.values_list("endpoint_id", "sequence_id"))


def _also_in(endpoint: Endpoint, other: str | None) -> list[Check]:
    if other is None:
        return []
    said = f"{endpoint.name} is in sequence {other} too; whichever comes second waits."
    return [Check(Level.WARN, "in_other_sequence", said, "/waves")]


def _create(actor: Actor, planned: PlannedSequence, note: str, starters: list[str]) -> RolloutSequence:
    at = now()
    row = RolloutSequence.objects.create(
        candidate_version=planned.version,
        plan=planned.plan.to_json(),
        plan_hash=planned.plan_hash,
        reason="waits for its first look",
        note=note,
        created_by=actor.label,
        starters=starters,
        starter_chain=list(actor.chain),
        created_at=at,
        phase_started_at=at,
        due_at=at,
    )
    SequenceMember.objects.bulk_create(
        [
            SequenceMember(
                sequence=row,
                endpoint_id=one.planned.endpoint.pk,
                wave=one.wave,
                place=place,
                plan=one.planned.plan.to_json(),
                plan_hash=one.planned.plan_hash,
            )
            for place, one in enumerate(planned.members)
        ]
    )
    return row


def _stale(row: RolloutSequence) -> Conflict:
    where = f"revision {row.revision}, wave {row.wave + 1}, {word_of(row.phase)}"
    return Conflict(
        "stale_revision", f"This sequence moved on meanwhile: it is at {where}. Look again.", extra=_where(row)
    )


def _where(row: RolloutSequence) -> dict[str, Any]:
    return {"revision": row.revision, "wave": row.wave, "phase": row.phase}
