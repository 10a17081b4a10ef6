"""The buttons' other side: one POST per command, with the revision that the person saw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from apps.accounts.web_access import actor_of_request, declares
from apps.experiments.services.decide import experiment_decide
from apps.experiments.services.designs import experiment_plan
from apps.experiments.services.lifecycle import experiment_extend, experiment_start, experiment_stop
from apps.experiments.services.readouts import readout_request
from apps.experiments.web.pages import page_context
from apps.kernel.actor import Actor
from apps.kernel.errors import Conflict, InvalidInput, NotFound, PolicyRefused
from apps.kernel.typed import number_typed

Do = Callable[[HttpRequest, Actor, str], object]


@declares({"POST": "experiment.read"})
def command(request: HttpRequest, experiment_id: str, command: str) -> HttpResponse:
    """Carry out one command; each service checks its own right. What is refused is said on the page, unchanged."""
    if command not in COMMANDS:
        raise NotFound("command_unknown", f"There is no command {command[:40]!r}.")
    do, said = COMMANDS[command]
    try:
        do(request, actor_of_request(request), experiment_id)
    except (Conflict, PolicyRefused, InvalidInput) as error:
        status = 422 if isinstance(error, InvalidInput) else 409
        context = page_context(request, experiment_id) | {"refused": error.detail}
        return render(request, "experiments/detail.html", context, status=status)
    messages.success(request, said)
    return redirect("experiments:detail", experiment_id)


def _plan(request: HttpRequest, actor: Actor, experiment_id: str) -> object:
    return experiment_plan(
        actor=actor, experiment_id=experiment_id, units_per_day=_number(request, "units_per_day", float)
    )


def _start(request: HttpRequest, actor: Actor, experiment_id: str) -> object:
    revision = _number(request, "expected_revision", int)
    return experiment_start(
        actor=actor, experiment_id=experiment_id, reason=_text(request, "reason"), expected_revision=revision
    )


def _stop(request: HttpRequest, actor: Actor, experiment_id: str) -> object:
    return experiment_stop(actor=actor, experiment_id=experiment_id, reason=_text(request, "reason"))


def _extend(request: HttpRequest, actor: Actor, experiment_id: str) -> object:
    percent = _number(request, "coverage", float)
    return experiment_extend(
        actor=actor,
        experiment_id=experiment_id,
        reason=_text(request, "reason"),
        minimum_days=_number(request, "minimum_days", int),
        coverage_bp=None if percent is None else round(percent * 100),
        planned_total=_number(request, "planned_total", int),
    )


def _read(request: HttpRequest, actor: Actor, experiment_id: str) -> object:
    return readout_request(actor=actor, experiment_id=experiment_id)


def _decide(request: HttpRequest, actor: Actor, experiment_id: str) -> object:
    return experiment_decide(
        actor=actor,
        experiment_id=experiment_id,
        kind=_text(request, "kind"),
        readout_id=_text(request, "readout_id"),
        reason=_text(request, "reason"),
    )


def _text(request: HttpRequest, name: str) -> str:
    return request.POST.get(name, "").strip()[:4000]


def _number(request: HttpRequest, name: str, kind: type[int] | type[float]) -> Any:
    text = request.POST.get(name, "").strip()
    if not text:
        return None
    try:
        value = number_typed(text)
    except ValueError:
        raise InvalidInput.at(f"/{name}", "not_a_number", f"{text[:40]!r} is no number.") from None
    if kind is int and not value.is_integer():
        raise InvalidInput.at(f"/{name}", "not_a_number", f"{text[:40]!r} is no whole number.")
    return kind(value)


COMMANDS: dict[str, tuple[Do, str]] = {
    "plan": (_plan, "Planned. Its size is fixed; start it when you are ready."),
    "start": (_start, "Starting. Both versions come up; then traffic is split."),
    "stop": (_stop, "Stopped. All traffic goes to the stable version."),
    "extend": (_extend, "Extended."),
    "read": (_read, "A readout is being computed."),
    "decide": (_decide, "Decided. All traffic goes to the stable version; what is shipped can now be rolled out."),
}
