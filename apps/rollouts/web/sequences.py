"""The list of rollout sequences and the page of one, with its fragments and its buttons' other side."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import cache_control
from django.views.decorators.http import conditional_page

from apps.accounts.web_access import actor_of_request, allows, declares
from apps.kernel.actor import Actor
from apps.kernel.buttons import reasons_of
from apps.kernel.errors import Conflict, InvalidInput, NotFound, PolicyRefused
from apps.rollouts.domain.machine import ACTIVE
from apps.rollouts.domain.sequence import SEQUENCE_TERMINAL, SequenceCommand, SequenceMemo, SequencePhase
from apps.rollouts.models import RolloutSequence, SequenceMember
from apps.rollouts.selectors import sequence_commands, sequence_get, sequence_list, sequence_transitions_of
from apps.rollouts.services.sequence_look import sequence_current
from apps.rollouts.services.sequences import RIGHTS, sequence_command
from apps.rollouts.web.buttons import Button
from apps.rollouts.web.reviews import sequence_reviews_of
from apps.targets.services.scope import why_not_at

PAGE_SIZE = 50
LEVELS: dict[SequencePhase, tuple[str, str]] = {
    SequencePhase.RUNNING: ("progressing", "under way"),
    SequencePhase.BAKING: ("progressing", "baking"),
    SequencePhase.WAITING: ("attention", "waits for a person"),
    SequencePhase.PAUSED: ("attention", "paused"),
    SequencePhase.STOPPED: ("bad", "stopped"),
    SequencePhase.ROLLING_BACK: ("bad", "rolling back"),
    SequencePhase.COMPLETED: ("ok", "completed"),
    SequencePhase.ROLLED_BACK: ("bad", "rolled back"),
    SequencePhase.ABORTED: ("unknown", "aborted"),
    SequencePhase.FAILED: ("bad", "failed"),
}
SAID = {
    "pause": "Paused: nothing more starts, members under way pause too. Guardrails go on.",
    "resume": "Resumed.",
    "continue": "The next wave begins.",
    "abort": "Aborted: nothing more starts, what is under way goes back.",
}
WAYS_ON = {
    SequencePhase.STOPPED: "Nothing more starts. Members under way were paused at the traffic they had, and their "
    "guardrails go on; what is through keeps the new version. Look why it failed, then try again what failed, or abort "
    "(with or without bringing back what is through). What fell after it was through is judged anew from then on.",
    SequencePhase.WAITING: "Look at what is through, then continue with the next wave.",
}


@dataclass(frozen=True, slots=True)
class WaveLine:
    """One wave of the page: ``state`` is done, now or later; ``bake_seconds`` lie between it and the next (None: a
    person continues)."""

    number: int
    state: str
    word: str
    members: list[MemberLine]
    bake_seconds: int | None
    is_last: bool


@dataclass(frozen=True, slots=True)
class MemberLine:
    """One endpoint of a wave: ``level`` and ``word`` say how it stands."""

    member: SequenceMember
    level: str
    word: str
    sentence: str
    is_moving: bool


@declares("rollout.read")
def sequences(request: HttpRequest) -> HttpResponse:
    """Every sequence that this person may see whole, newest first."""
    context = _listed(request) | {"may_start": allows(request, "rollout.start")}
    return render(request, "rollouts/waves/list.html", context)


@declares("rollout.read")
@cache_control(private=True, no_cache=True)
@conditional_page
def rows(request: HttpRequest) -> HttpResponse:
    return render(request, "rollouts/waves/_rows.html", _listed(request))


@declares("rollout.read")
def sequence(request: HttpRequest, sequence_id: str) -> HttpResponse:
    """One sequence. Raises NotFound."""
    found = sequence_get(sequence_id, actor_of_request(request))
    return render(request, "rollouts/waves/detail.html", _page(found))


@declares("rollout.read")
@cache_control(private=True, no_cache=True)
@conditional_page
def head(request: HttpRequest, sequence_id: str) -> HttpResponse:
    """The sentence, the way on, and every wave with its members."""
    found = sequence_get(sequence_id, actor_of_request(request))
    phase = SequencePhase(found.phase)
    context = {
        "sequence": found,
        "level": LEVELS[phase],
        "sentence": _sentence(found, phase),
        "reason": sequence_current(found),
        "until": _until(found, phase),
        "way_on": WAYS_ON.get(phase, ""),
        "waves": _waves(found, phase),
    }
    return render(request, "rollouts/waves/_head.html", context)


@declares("rollout.read")
@cache_control(private=True, no_cache=True)
@conditional_page
def log(request: HttpRequest, sequence_id: str) -> HttpResponse:
    """Every decision about the sequence, newest first."""
    found = sequence_get(sequence_id, actor_of_request(request))
    transitions = sequence_transitions_of(found.pk).defer("state", "seen", "decision").order_by("-revision")
    shown = [(item, *LEVELS[SequencePhase(item.to_phase)]) for item in transitions]
    return render(request, "rollouts/waves/_log.html", {"transitions": shown})


@declares("rollout.read")
@cache_control(private=True, no_store=True)
def actions(request: HttpRequest, sequence_id: str) -> HttpResponse:
    """The buttons, each with the revision that this person saw."""
    found = sequence_get(sequence_id, actor_of_request(request))
    buttons = _buttons(actor_of_request(request), found)
    level = LEVELS[SequencePhase(found.phase)]
    context = {"sequence": found, "buttons": buttons, "reasons": reasons_of(buttons), "level": level}
    return render(request, "rollouts/waves/_actions.html", context)


@declares({"POST": "rollout.read"})
def command(request: HttpRequest, sequence_id: str, command: str) -> HttpResponse:
    """Carry out one command and show the sequence; a stale click shows what moved on and changes nothing."""
    if command not in SAID:
        raise NotFound("command_unknown", f"There is no command {command!r}.")
    revision = request.POST.get("expected_revision", "")
    if not revision.isdecimal():
        raise InvalidInput.at(
            "/expected_revision", "required", "expected_revision is missing: load the page again and press once more."
        )
    try:
        sequence_command(
            actor=actor_of_request(request),
            sequence_id=sequence_id,
            command=command,
            expected_revision=int(revision),
            reason=request.POST.get("reason", "").strip()[:500],
            is_whole=request.POST.get("roll_back") == "on",
        )
    except (Conflict, PolicyRefused) as error:
        title = "The sequence moved on while you looked" if error.code.startswith("stale") else "Not possible now"
        context = _page(sequence_get(sequence_id)) | {"conflict": {"title": title, "detail": error.detail}}
        return render(request, "rollouts/waves/detail.html", context, status=409)
    messages.success(request, SAID[command])
    return redirect("rollouts:sequence", sequence_id)


def _listed(request: HttpRequest) -> dict[str, Any]:
    page = Paginator(sequence_list(actor_of_request(request)), PAGE_SIZE).get_page(request.GET.get("page"))
    return {"page": page, "lines": [(one, *LEVELS[SequencePhase(one.phase)], _count(one)) for one in page]}


def _count(row: RolloutSequence) -> str:
    members = list(row.members.all())
    done = sum(_is_through(one, row) for one in members)
    return f"{done} of {len(members)} through"


def _is_through(member: SequenceMember, row: RolloutSequence) -> bool:
    return member.endpoint.stable_version_id == row.candidate_version_id and not _is_moving(member)


def _is_moving(member: SequenceMember) -> bool:
    return any(one is not None and one.phase in ACTIVE for one in (member.rollout, member.back))


def _page(found: RolloutSequence) -> dict[str, Any]:
    """Members' rollouts move too: their frames refetch what shows them."""
    moving = [one.pk for member in found.members.all() for one in (member.rollout, member.back) if one is not None]
    live = " ".join([f"sequence:{found.pk}", *(f"rollout:{pk}" for pk in moving[:40])])
    level = LEVELS[SequencePhase(found.phase)]
    return {"sequence": found, "live": live, "level": level, "reviews": sequence_reviews_of(found)}


def _waves(found: RolloutSequence, phase: SequencePhase) -> list[WaveLine]:
    members = list(found.members.all())
    lines = []
    for index, wave in enumerate(found.plan["waves"]):
        own = [_line(one, found) for one in members if one.wave == index]
        state = "done" if index < found.wave or phase is SequencePhase.COMPLETED else "later"
        if index == found.wave and phase is not SequencePhase.COMPLETED:
            state = "now"
        word = {"done": "through", "now": "now", "later": "not begun"}[state]
        word = "ended here" if state == "now" and phase in SEQUENCE_TERMINAL else word
        is_last = index == len(found.plan["waves"]) - 1
        lines.append(WaveLine(index + 1, state, word, own, wave["bake_seconds"], is_last))
    return lines


def _line(member: SequenceMember, row: RolloutSequence) -> MemberLine:
    rollout, back, version = member.rollout, member.back, row.candidate_version.semver
    if member.left:
        return MemberLine(member, "bad", "did not go back", member.left, False)
    if back is not None:
        word = "went back" if back.phase == "promoted" else ""
        return MemberLine(member, "unknown" if word else back.phase, word, back.reason, back.phase in ACTIVE)
    if rollout is None:
        if _is_through(member, row):
            return MemberLine(member, "ok", f"serves {version} already", "", False)
        return MemberLine(member, "unknown", "not begun", "", False)
    return MemberLine(member, rollout.phase, "", rollout.reason, rollout.phase in ACTIVE)


def _sentence(found: RolloutSequence, phase: SequencePhase) -> str:
    version, count = found.candidate_version.semver, _count(found)
    where = f"Wave {found.wave + 1} of {len(found.plan['waves'])}, {count}."
    match phase:
        case SequencePhase.COMPLETED:
            return f"{version} is everywhere it was to go."
        case SequencePhase.ROLLED_BACK:
            first = SequenceMemo.from_json(found.memo).back_wave
            return f"{version} went back {f'from wave {first + 1} on; {count}' if first else 'everywhere'}."
        case SequencePhase.ABORTED:
            return f"Aborted; {count}, which keep {version}."
        case SequencePhase.FAILED:
            return f"{version} could not be brought back everywhere."
        case SequencePhase.ROLLING_BACK:
            return f"{version} is going back."
        case _:
            return where


def _until(found: RolloutSequence, phase: SequencePhase) -> datetime | None:
    """When the next wave begins, if a bake says so."""
    if phase is not SequencePhase.BAKING:
        return None
    left = (found.plan["waves"][found.wave]["bake_seconds"] or 0) - SequenceMemo.from_json(found.memo).baked_seconds
    return found.phase_started_at + timedelta(seconds=left)


def _buttons(actor: Actor, found: RolloutSequence) -> list[Button]:
    phase = SequencePhase(found.phase)
    if phase in SEQUENCE_TERMINAL:
        return []
    refusals = sequence_commands(found)
    endpoints = [member.endpoint for member in found.members.all()]
    return [
        replace(one, why_not=_who_not(actor, RIGHTS[SequenceCommand(one.command)], endpoints) or refusals[one.command])
        for one in _wanted(found, phase)
    ]


def _who_not(actor: Actor, right: str, endpoints: Iterable[Any]) -> str:
    """Why not at the first endpoint where this person may not; "" when they may at all."""
    for endpoint in endpoints:
        why = why_not_at(actor, right, endpoint)
        if why:
            return f"{endpoint.name}: {why}"
    return ""


def _wanted(found: RolloutSequence, phase: SequencePhase) -> list[Button]:
    wave = found.wave + 2
    abort = Button("abort", "Abort", "danger", ask="Nothing more starts, and members under way go back.")
    match phase:
        case SequencePhase.STOPPED:
            again = Button("resume", "Try again what failed", ask="Failed members begin again, paused ones go on.")
            return [again, abort]
        case SequencePhase.PAUSED:
            return [Button("resume", "Resume", "primary"), abort]
        case SequencePhase.WAITING:
            return [Button("continue", f"Continue with wave {wave}", "primary"), Button("pause", "Pause"), abort]
        case SequencePhase.BAKING:
            early = f"Wave {wave} begins now; what is left of the bake is skipped."
            button = Button("continue", f"Continue with wave {wave}", ask=early, is_reason_required=True)
            return [button, Button("pause", "Pause"), abort]
        case SequencePhase.ROLLING_BACK:
            return [abort]
        case _:
            return [Button("pause", "Pause"), abort]
