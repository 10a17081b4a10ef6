"""Which buttons an experiment has now, and why the others cannot be pressed."""

from __future__ import annotations

from dataclasses import replace

from django.http import HttpRequest

from apps.accounts.web_access import actor_of_request
from apps.experiments.domain.words import ACTIVE, EDITABLE, ENDED, Status
from apps.experiments.models import Experiment
from apps.experiments.selectors import allowed_commands
from apps.kernel.buttons import Button
from apps.targets.services.scope import why_not_at


def buttons_of(request: HttpRequest, experiment: Experiment) -> list[Button]:
    """What the status offers: plan and start; read, extend, decide, stop."""
    rules = {item.command: item for item in allowed_commands(experiment)}
    actor, found = actor_of_request(request), []
    for button in _wanted(experiment):
        rule = rules[button.command]
        why = why_not_at(actor, rule.action, experiment.endpoint) or ("" if rule.is_allowed else rule.reason)
        found.append(replace(button, why_not=why))
    return found


def _wanted(experiment: Experiment) -> list[Button]:
    status, candidate = Status(experiment.status), experiment.treatment_version.semver
    if status in EDITABLE:
        ask = (
            f"{candidate} comes up beside {experiment.control_version.semver}; then the gateway splits traffic by arm."
        )
        return [
            Button(
                "plan",
                "Plan it" if status is Status.DRAFT else "Plan again",
                "primary" if status is Status.DRAFT else "",
            ),
            Button("start", "Start", "primary" if status is Status.PLANNED else "", "reason", ask),
        ]
    stop = Button(
        "stop", "Stop", "danger", "required", f"All traffic goes to {experiment.control_version.semver}, at once."
    )
    if status in ACTIVE:
        found = [Button("read", "Read now"), Button("extend", "Extend", "", "extend"), stop]
        return [Button("decide", "Decide", "primary", "decide"), *found]
    if status is Status.STOPPED:
        return [Button("decide", "Decide", "primary", "decide"), Button("read", "Read again")]
    return [Button("read", "Read again")] if status in ENDED else []
