"""Trying out what is typed: asked for from the design page, and looked at until it is done."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from apps.accounts.web_access import actor_of_request, declares
from apps.experiments.domain.words import ReadoutState
from apps.experiments.models import Study
from apps.experiments.selectors import queue_condition
from apps.experiments.services.studies import study_get, study_request
from apps.experiments.web.said import difference_said
from apps.experiments.web.typed import Typed
from apps.kernel.errors import DomainError, InvalidInput


@declares({"POST": "experiment.read"})
def simulate(request: HttpRequest) -> HttpResponse:
    """The study of the typed plan, new or known. What is missing stands in it as a sentence, with status 200."""
    typed = Typed.read(request.POST)
    typed.values["hypothesis"] = typed["hypothesis"] or "to be written"
    try:
        design = typed.design()
        if not typed["endpoint"]:
            raise InvalidInput.at("/endpoint", "required", "Choose the endpoint whose traffic takes part.")
        found = study_request(
            actor=actor_of_request(request), endpoint_id=typed["endpoint"], design=design,
            units_per_day=typed.units_per_day(),
        )  # fmt: skip
    except DomainError as error:
        return render(request, "experiments/_study.html", {"missing": error.detail})
    return render(request, "experiments/_study.html", _shown(found))


@declares("experiment.read")
def study(request: HttpRequest, study_id: str) -> HttpResponse:
    """How far it is, or what came out. Raises NotFound."""
    return render(request, "experiments/_study.html", _shown(study_get(study_id)))


def _shown(found: Study) -> dict[str, Any]:
    is_waiting = found.state in {ReadoutState.QUEUED, ReadoutState.COMPUTING}
    context: dict[str, Any] = {"study": found, "is_waiting": is_waiting, "result": found.result}
    if is_waiting:
        return context | {"queue": queue_condition()}
    if found.state == ReadoutState.DONE:
        metric = {"kind": "proportion" if found.inputs["is_share"] else "mean"}
        grid = found.result["grid"]
        context["said"] = {name: _range(found.result[name]) for name in ("power", "false_alarm", "wrong_way")}
        context["said"]["mean"] = f"{found.result['mean_units']:,.0f}"
        rows = [
            (difference_said(metric, effect), [f"{power:.0%}" for power in row])
            for effect, row in zip(grid["effects"], grid["power"], strict=True)
            if None not in row
        ]
        context["grid"] = rows
    return context


def _range(share: dict[str, float]) -> str:
    return f"{share['value']:.1%} ({share['lower']:.1%} to {share['upper']:.1%})"
