"""The list of experiments and the page of one, with the fragments it is made of."""

from __future__ import annotations

from typing import Any

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import cache_control
from django.views.decorators.http import conditional_page

from apps.accounts.web_access import actor_of_request, allows, declares
from apps.experiments.domain.snippets import snippet
from apps.experiments.domain.words import ACTIVE, ENDED, Status, Unit
from apps.experiments.models import Experiment
from apps.experiments.selectors import (
    decision_of,
    design_of,
    experiment_get,
    experiment_list,
    looks_of,
    periods_of,
    queue_condition,
    readout_latest,
    readout_waiting,
    readouts_latest,
)
from apps.experiments.services.decide import words
from apps.experiments.web.buttons import buttons_of
from apps.experiments.web.figures import boundary_figure, estimate_figure, pace_figure
from apps.experiments.web.said import (
    RAILS,
    SPLITS,
    clusters_said,
    decision_said,
    difference_said,
    head_sentence,
    left_said,
    level_of,
    loss_said,
    range_said,
    ranks_said,
    row_of,
    value_said,
)
from apps.experiments.web.typed import typed_of
from apps.kernel.buttons import reasons_of
from apps.targets.selectors import observed_of

PAGE_SIZE = 50
LANGUAGES = (("python", "Python"), ("javascript", "JavaScript"), ("curl", "curl"))
FINALS = (
    ("ship", "Ship the new version"),
    ("roll_back", "Go back to what served before"),
    ("stop_inconclusive", "Stop: no difference was found"),
)
FACETS = (("", "All"), ("active", "Running"), ("open", "Planned"), ("ended", "Ended"))
STATUSES = {
    "active": ",".join(sorted(status.value for status in ACTIVE)),
    "open": f"{Status.DRAFT},{Status.PLANNED}",
    "ended": ",".join(sorted(status.value for status in ENDED)),
}


@declares("experiment.read")
def experiments(request: HttpRequest) -> HttpResponse:
    """Every experiment, newest first, with what its numbers say."""
    context = _listed(request) | {"may_write": allows(request, "experiment.write"), "queue": queue_condition()}
    return render(request, "experiments/list.html", context)


@declares("experiment.read")
@cache_control(private=True, no_cache=True)
@conditional_page
def rows(request: HttpRequest) -> HttpResponse:
    return render(request, "experiments/_rows.html", _listed(request))


@declares("experiment.read")
def experiment(request: HttpRequest, experiment_id: str) -> HttpResponse:
    """One experiment. Raises NotFound."""
    return render(request, "experiments/detail.html", page_context(request, experiment_id))


def page_context(request: HttpRequest, experiment_id: str) -> dict[str, Any]:
    """Also for a refused command, which shows the same page with the reason on top."""
    found = experiment_get(experiment_id, actor_of_request(request))
    design = design_of(found)
    return {
        "experiment": found,
        "design": design,
        "typed": typed_of(found.name, found.endpoint.name, found.treatment_version.semver, design).values,
        "periods": periods_of(found),
        "snippets": _snippets(request, found) if design.unit is not Unit.REQUEST and found.status not in ENDED else [],
    }


def _snippets(request: HttpRequest, found: Experiment) -> list[tuple[str, str]]:
    """(language, lines) with this experiment's own addresses."""
    observed = observed_of(found.endpoint)
    gateway = observed.address if observed and observed.address else f"http://<gateway>/serve/{found.endpoint.name}"
    api = request.build_absolute_uri(f"/api/v1/experiments/{found.pk}")
    return [(word, snippet(name, api=api, gateway=gateway)) for name, word in LANGUAGES]


@declares("experiment.read")
@cache_control(private=True, no_cache=True)
@conditional_page
def head(request: HttpRequest, experiment_id: str) -> HttpResponse:
    """What to do, how far it is, and whether its numbers may be believed."""
    found = experiment_get(experiment_id, actor_of_request(request))
    latest, waiting = readout_latest(found), readout_waiting(found)
    result = latest.result if latest else {}
    level, word = level_of(found)
    context: dict[str, Any] = {
        "experiment": found,
        "level": level,
        "word": word,
        "sentence": head_sentence(found),
        "latest": latest,
        "result": result,
        "waiting": waiting,
        "queue": queue_condition() if waiting else None,
        "decision": decision_of(found),
        "rails": [rail | {"level": RAILS[rail["verdict"]]} for rail in result.get("guardrails", ())],
        "is_active": found.status in ACTIVE,
    }
    if result:
        context |= {
            "advice": decision_said(result["decision"]["kind"]),
            "advice_words": words(result["decision"]["kind"]),
            "loss": loss_said(result),
            "left": left_said(result),
        }
    return render(request, "experiments/_head.html", context)


@declares("experiment.read")
@cache_control(private=True, no_cache=True)
@conditional_page
def result(request: HttpRequest, experiment_id: str) -> HttpResponse:
    """The numbers of the newest readout: primary metric, others, health, breakdown."""
    found = experiment_get(experiment_id, actor_of_request(request))
    latest = readout_latest(found)
    if latest is None:
        return render(request, "experiments/_result.html", {"experiment": found, "result": None})
    result, looks = latest.result, looks_of(found)
    primary = result["primary"]
    context = {
        "experiment": found,
        "latest": latest,
        "result": result,
        "primary": row_of(primary),
        "band": range_said(primary, result["look"]["lower"], result["look"]["upper"]),
        "rows": [row_of(metric) for metric in result["secondary"]],
        "health": _health(result["health"]),
        "dimensions": [
            {"name": one["dimension"], "rows": [(value["value"], row_of(value)) for value in one["values"]]}
            for one in result["dimensions"]
        ],
        "unadjusted": _unadjusted(primary),
        "estimate": estimate_figure(looks, primary) if looks else None,
        "boundary": boundary_figure(looks),
        "pace": pace_figure(result),
        "left": left_said(result),
        "ranks": [said for metric in [primary, *result["secondary"]] if (said := ranks_said(metric)) is not None],
        "clusters": [clustered for metric in result["secondary"] if (clustered := clusters_said(metric))],
    }
    return render(request, "experiments/_result.html", context)


@declares("experiment.read")
@cache_control(private=True, no_cache=True)
@conditional_page
def looks(request: HttpRequest, experiment_id: str) -> HttpResponse:
    """Every look, newest first, with what it said."""
    found = experiment_get(experiment_id, actor_of_request(request))
    rows = [
        {
            "look": look,
            "said": decision_said(look.kind),
            "row": row_of(look.result["primary"]),
            "band": range_said(look.result["primary"], look.result["look"]["lower"], look.result["look"]["upper"]),
        }
        for look in reversed(looks_of(found))
    ]
    return render(request, "experiments/_looks.html", {"experiment": found, "rows": rows})


@declares("experiment.read")
@cache_control(private=True, no_store=True)
def actions(request: HttpRequest, experiment_id: str) -> HttpResponse:
    """The buttons, each with the revision that this person saw."""
    found = experiment_get(experiment_id, actor_of_request(request))
    buttons = buttons_of(request, found)
    latest = readout_latest(found)
    context = {
        "experiment": found,
        "buttons": buttons,
        "reasons": reasons_of(buttons),
        "latest": latest,
        "said": words(latest.kind) if latest else "",
        "level": level_of(found),
        "decisions": FINALS,
    }
    return render(request, "experiments/_actions.html", context)


def _listed(request: HttpRequest) -> dict[str, Any]:
    facet = request.GET.get("show", "")
    found = experiment_list(actor_of_request(request), status=STATUSES.get(facet))
    page = Paginator(found, PAGE_SIZE).get_page(request.GET.get("page"))
    shown: list[Experiment] = list(page)
    latest = readouts_latest(shown)
    rows = [_row(one, latest.get(one.pk)) for one in shown]
    return {"page": page, "rows": rows, "facets": FACETS, "facet": facet}


def _row(found: Experiment, latest: Any) -> dict[str, Any]:
    row = {"experiment": found, "level": level_of(found), "latest": latest, "says": None, "difference": "", "band": ""}
    if latest is not None:
        primary = latest.result["primary"]
        row |= {
            "says": decision_said(latest.kind),
            "difference": row_of(primary).difference,
            "band": range_said(primary, latest.result["look"]["lower"], latest.result["look"]["upper"]),
        }
    return row


def _health(health: dict[str, Any]) -> dict[str, Any]:
    return health | {"srm_level": SPLITS[health["srm"]["status"]]}


def _unadjusted(primary: dict[str, Any]) -> dict[str, str] | None:
    """What the metric is without its covariate, to be shown beside it."""
    plain = primary.get("unadjusted")
    if not plain or "undefined" in plain:
        return None
    return {
        "difference": difference_said(primary, plain["estimate"]),
        "interval": range_said(primary, plain["lower"], plain["upper"]),
        "saved": value_said({"kind": "proportion"}, primary.get("variance_saved")),
    }
