"""The buttons' other side: one POST per command, with the step and revision that the person saw."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from apps.accounts.web_access import actor_of_request, declares
from apps.kernel.actor import Actor
from apps.kernel.errors import Conflict, InvalidInput, NotFound, PolicyRefused
from apps.rollouts.domain.machine import word_of
from apps.rollouts.domain.plan import Plan
from apps.rollouts.selectors import rollout_get
from apps.rollouts.services.acknowledge import rollout_acknowledge
from apps.rollouts.services.lifecycle import rollout_command
from apps.rollouts.services.scope import rollout_require
from apps.rollouts.web.reviews import reviews_of
from apps.rollouts.web.story import stops_of

SAID = {
    "pause": "Paused. Traffic stays as it is, guardrails go on.",
    "resume": "Resumed.",
    "promote": "Promoted: the rest of the plan is skipped.",
    "abort": "Aborted: stable gets all traffic again.",
    "roll_back": "Rolling back: stable gets all traffic again.",
    "retry": "A new attempt with the same plan has begun.",
    "acknowledge": "Acknowledged: it does not wait for anybody any more.",
}
NEEDS_REASON = frozenset({"promote"})


@declares({"POST": "rollout.read"})
def command(request: HttpRequest, rollout_id: str, command: str) -> HttpResponse:
    """Carry out one command and show the rollout; a stale click shows what moved on and changes nothing."""
    if command not in SAID:
        raise NotFound("command_unknown", f"There is no command {command!r}.")
    actor = actor_of_request(request)
    rollout_require(actor, f"rollout.{command}", rollout_get(rollout_id, actor))
    reason = request.POST.get("reason", "").strip()[:500]
    if command in NEEDS_REASON and not reason:
        raise InvalidInput.at("/reason", "required", "Say why: the reason stays in the log beside the evidence.")
    if command == "acknowledge":
        return _acknowledge(request, actor, rollout_id, reason)
    seen = _number(request, "expected_revision"), _number(request, "expected_step")
    try:
        result = rollout_command(
            actor=actor,
            rollout_id=rollout_id,
            command=command,
            expected_revision=seen[0],
            expected_step=seen[1],
            reason=reason,
        )
    except (Conflict, PolicyRefused) as error:
        return _refused(request, rollout_id, seen[1], error)
    messages.success(request, SAID[command])
    return redirect("rollouts:detail", result.pk)


def _acknowledge(request: HttpRequest, actor: Actor, rollout_id: str, reason: str) -> HttpResponse:
    """From the rollout's page or from the fleet's list; back to where the person was."""
    try:
        result = rollout_acknowledge(actor=actor, rollout_id=rollout_id, reason=reason)
    except Conflict as error:
        return _refused(request, rollout_id, rollout_get(rollout_id, actor).step, error)
    messages.success(request, SAID["acknowledge"])
    return redirect("fleet") if request.POST.get("back") == "fleet" else redirect("rollouts:detail", result.pk)


def _number(request: HttpRequest, name: str) -> int:
    text = request.POST.get(name, "")
    if not text.removeprefix("-").isdecimal():
        raise InvalidInput.at(f"/{name}", "required", f"{name} is missing: load the page again and press once more.")
    return int(text)


def _refused(request: HttpRequest, rollout_id: str, saw_step: int, error: Conflict | PolicyRefused) -> HttpResponse:
    found = rollout_get(rollout_id)
    plan = Plan.from_json(found.plan)
    title = "The rollout moved on while you looked" if error.code.startswith("stale") else "Not possible now"
    conflict: dict[str, Any] = {"title": title, "detail": error.detail}
    if saw_step != found.step:
        conflict |= {"saw": _place(plan, saw_step), "now": f"{_place(plan, found.step)}, {word_of(found.phase)}"}
    context = {
        "rollout": found,
        "plan": plan,
        "stops": stops_of(plan),
        "conflict": conflict,
        "reviews": reviews_of(found, plan),
    }
    return render(request, "rollouts/detail.html", context, status=409)


def _place(plan: Plan, step: int) -> str:
    """A step as people say it: its number and the weight in force there."""
    if step < 0:
        return "the preparation"
    weights = [item.weight_bp for item in plan.steps[: step + 1] if item.weight_bp is not None]
    return f"step {step + 1} of {len(plan.steps)} ({(weights[-1] if weights else 0) / 100:g} %)"
