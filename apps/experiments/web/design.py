"""The design page: what is asked, what it costs in units and days, and the power over both, before anything runs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from apps.accounts.web_access import actor_of_request, declares
from apps.experiments.domain.sizing import curve, sizing_json
from apps.experiments.domain.words import MetricKind
from apps.experiments.models import Experiment
from apps.experiments.selectors import design_of, experiment_get
from apps.experiments.services.designs import (
    Planned,
    design_size,
    experiment_create,
    experiment_plan,
    experiment_revise,
)
from apps.experiments.web.figures import power_figure
from apps.experiments.web.said import days_said, difference_said, value_said
from apps.experiments.web.typed import MEASURES, MODES, SHARES, UNITS, Typed, typed_of
from apps.kernel.actor import Actor
from apps.kernel.errors import Conflict, DomainError, Forbidden, InvalidInput, NotFound
from apps.registry.selectors import version_by
from apps.targets.selectors import endpoint_get, endpoint_list
from apps.targets.services.scope import why_not_at


@declares({"GET": "experiment.read", "POST": "experiment.write"})
def new(request: HttpRequest) -> HttpResponse:
    """GET shows the form; POST keeps a draft, or plans it at once."""
    if request.method != "POST":
        return _page(request, Typed.read(request.GET, is_fresh=True))
    typed = Typed.read(request.POST)
    actor = actor_of_request(request)
    try:
        design = typed.design()
        version = _version(actor, typed)
        made = experiment_create(
            actor=actor, name=typed["name"], endpoint_id=typed["endpoint"], treatment_version_id=version, design=design
        )
    except (InvalidInput, Conflict, NotFound) as error:
        typed.place(error)
        return _page(request, typed, status=409 if isinstance(error, Conflict) else 422)
    return _kept(request, made, typed, None)


@declares({"GET": "experiment.read", "POST": "experiment.write"})
def edit(request: HttpRequest, experiment_id: str) -> HttpResponse:
    """The same form over a draft; refused once it has started. Raises NotFound."""
    actor = actor_of_request(request)
    found = experiment_get(experiment_id, actor)
    if request.method != "POST":
        label = found.treatment_version.semver
        return _page(request, typed_of(found.name, found.endpoint.name, label, design_of(found)), found)
    typed = Typed.read(request.POST)
    typed.values["endpoint"] = found.endpoint.name
    try:
        revised = experiment_revise(
            actor=actor,
            experiment_id=found.pk,
            expected_revision=_revision(request),
            name=typed["name"],
            treatment_version_id=_version(actor, typed),
            design=typed.design(),
        )
    except (InvalidInput, Conflict) as error:
        typed.place(error)
        return _page(request, typed, found, status=409 if isinstance(error, Conflict) else 422)
    return _kept(request, revised, typed, found)


@declares({"POST": "experiment.read"})
def size(request: HttpRequest) -> HttpResponse:
    """The numbers of what is typed now; nothing is stored. Faults stand in it as sentences, with status 200: it is a
    fragment beside a form that is not finished yet."""
    typed = Typed.read(request.POST)
    return render(request, "experiments/_numbers.html", _numbers(actor_of_request(request), typed))


def _kept(request: HttpRequest, experiment: Experiment, typed: Typed, before: Experiment | None) -> HttpResponse:
    if request.POST.get("do") != "plan":
        messages.success(request, "The draft is kept. Nothing runs until it is planned and started.")
        return redirect("experiments:detail", experiment.pk)
    try:
        experiment_plan(
            actor=actor_of_request(request), experiment_id=experiment.pk, units_per_day=typed.units_per_day()
        )
    except (InvalidInput, Conflict) as error:
        messages.error(request, f"The draft is kept but not planned: {error.detail}")
        return redirect("experiments:edit", experiment.pk)
    messages.success(request, "Planned. Its size is fixed; start it when you are ready.")
    return redirect("experiments:detail", experiment.pk)


def _page(request: HttpRequest, typed: Typed, found: Experiment | None = None, status: int = 200) -> HttpResponse:
    actor = actor_of_request(request)
    endpoints = list(endpoint_list(actor))
    chosen = next((one for one in endpoints if one.name == typed["endpoint"]), None)
    why = why_not_at(actor, "experiment.write", chosen) if chosen else ""
    context = {
        "typed": typed.values,
        "faults": typed.faults,
        "experiment": found,
        "endpoints": endpoints,
        "chosen": chosen,
        "versions": _versions(chosen),
        "measures": MEASURES,
        "units": UNITS,
        "modes": MODES,
        "is_share": typed["measure"] in SHARES,
        "who_not": why,
        **_numbers(actor, typed, keep_faults=True),
    }
    return render(request, "experiments/design.html", context, status=status)


def _versions(endpoint: Any) -> list[Any]:
    """Versions that may be the treatment: ready ones of the endpoint's model, newest first."""
    if endpoint is None:
        return []
    return list(endpoint.model.versions.filter(status="ready", deleted_at=None).order_by("-number")[:100])


def _version(actor: Actor, typed: Typed) -> str:
    """The id of the chosen version. Raises InvalidInput and NotFound."""
    if not typed["endpoint"]:
        raise InvalidInput.at("/endpoint", "required", "Choose the endpoint whose traffic takes part.")
    endpoint = endpoint_get(typed["endpoint"], actor)
    if not typed["version"]:
        raise InvalidInput.at("/version", "required", "Choose the version that is compared with the one that serves.")
    try:
        return str(version_by(endpoint.model.name, typed["version"], actor=actor).pk)
    except NotFound as error:
        raise InvalidInput.at("/version", "unknown", error.detail) from error


def _numbers(actor: Actor, typed: Typed, *, keep_faults: bool = False) -> dict[str, Any]:
    """The panel at the side: sizes, days and the curve, or what is missing for them."""
    probe = Typed(typed.values)
    probe.values["hypothesis"] = probe["hypothesis"] or "to be written"
    try:
        raw = probe.design()
        if not probe["endpoint"]:
            raise InvalidInput.at("/endpoint", "required", "Choose the endpoint whose traffic takes part.")
        planned = design_size(
            actor=actor, endpoint_id=probe["endpoint"], design=raw, units_per_day=probe.units_per_day()
        )
    except (DomainError, Forbidden) as error:
        probe.place(error)
        return {"planned": None, "missing": list(dict.fromkeys(probe.faults.values()))[:4]}
    return {"planned": planned, "missing": [], **_shown(planned)}


def _shown(planned: Planned) -> dict[str, Any]:
    design, sized = planned.design, planned.sizing
    metric = design.primary_metric
    as_metric = {"kind": metric.kind.value}
    drawn = curve(design, sized)
    words = [difference_said(as_metric, line["effect"]) for line in drawn["lines"]]
    numbers = sizing_json(sized)
    detectable = numbers["detectable"]
    is_share = metric.kind is MetricKind.PROPORTION
    least = None
    if detectable is not None:
        base = sized.baseline or 0.0
        least = difference_said(as_metric, detectable["value"] - base if is_share else detectable["value"])
    return {
        "numbers": numbers,
        "effect_word": difference_said(as_metric, sized.effect),
        "least_word": least,
        "target_word": value_said(as_metric, (sized.baseline or 0.0) + sized.effect) if sized.baseline else "",
        "power": power_figure(drawn, planned=sized.planned_total, power=design.power, effects=words),
        "share_word": f"{design.share_of_treatment:.0%}",
        "power_word": f"{sized.power_at_plan:.1%}",
        "looks": design.looks,
        "pace_said": _pace_said(planned),
    }


def _pace_said(planned: Planned) -> str:
    """The days for all units as measured, with their range; "" where nothing was."""
    if planned.pace is None or planned.left is None:
        return ""
    return days_said(asdict(planned.left), planned.pace.daily, "for all units")


def _revision(request: HttpRequest) -> int | None:
    text = request.POST.get("expected_revision", "")
    return int(text) if text.isdecimal() else None
