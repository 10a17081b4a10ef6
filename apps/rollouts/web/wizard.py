"""The wizard: six addresses over one draft; the plan at its side is the same dry run that CI gets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from apps.accounts.web_access import actor_of_request, declares, why_not
from apps.kernel.actor import Actor
from apps.kernel.errors import DomainError, NotFound
from apps.registry.selectors import model_get, model_list, version_by
from apps.rollouts.domain.plan import Strategy
from apps.rollouts.domain.strategies import TIMINGS
from apps.rollouts.selectors import rollout_list
from apps.rollouts.services.approvers import PRODUCTION, approvers_words
from apps.rollouts.services.lifecycle import rollout_start
from apps.rollouts.web.draft import APPROVALS, PROFILE_WORDS, STEP_OF, STEPS, Draft
from apps.rollouts.web.dry_run import PlanView, plan_view
from apps.rollouts.web.fit import unfit_sentence
from apps.rollouts.web.plan_diff import plan_changes, plan_text, shown_plan
from apps.rollouts.web.put_aside import forget, put_aside, take_back
from apps.rollouts.web.strategy_cards import APPROVAL_CARDS, CARDS
from apps.rollouts.web.trial_draft import METRICS, THEN, TRIAL_FIELDS, UNITS
from apps.targets.selectors import capabilities_of, endpoint_get, endpoint_list
from apps.targets.services.scope import why_not_at

if TYPE_CHECKING:
    from apps.registry.models import ModelVersion
    from apps.targets.models import Endpoint

ORDER = [name for name, _ in STEPS]
NEWEST_SHOWN = 3
ASKS_TARGET = frozenset({"plan", "start"})
SHOWN = {
    "what": ("model", "version", "note"),
    "where": ("endpoint",),
    "how": ("strategy", "profile", "keep_warm", "approval"),
    "guardrails": ("errors", "error_limit", "slow", "slow_ms", "slow_limit", "available", "available_limit"),
    "plan": ("on_busy",),
    "start": (),
}


@declares({"GET": "rollout.plan", "POST": "rollout.start"})
def new(request: HttpRequest) -> HttpResponse:
    """GET shows a step, or the first faulty one before it (422). POST starts."""
    draft = Draft.read(request.POST if request.method == "POST" else request.GET)
    wanted = request.GET.get("step", "what")
    if request.method == "GET" and (better := _better_address(request, draft, wanted)):
        return redirect(f"{request.path}{better}")
    actor = actor_of_request(request)
    version, endpoint = _chosen(actor, draft)
    # the target is asked where its answer is shown; starting asks it again by itself
    is_asked = request.method != "POST" and wanted in ASKS_TARGET
    plan = _plan(actor, draft, version, endpoint, is_asked=is_asked)
    if request.method == "POST":
        return _start(request, draft, version, endpoint, plan)
    return _show(request, draft, version, endpoint, plan, wanted=wanted)


def _better_address(request: HttpRequest, draft: Draft, wanted: str) -> str:
    """Where the strategy was changed: the address without what the new one does not use, or with what was typed for it
    before; "" for an address that is good."""
    put_aside(request, draft)
    found = take_back(request, draft) if wanted == "how" else {}
    if not found and (draft.is_ab or set(TRIAL_FIELDS).isdisjoint(request.GET)):
        return ""
    return _address(draft, wanted, found)


def _start(
    request: HttpRequest, draft: Draft, version: ModelVersion | None, endpoint: Endpoint | None, plan: PlanView | None
) -> HttpResponse:
    if version is None or endpoint is None or draft.faults:
        return _show(request, draft, version, endpoint, plan, wanted="start")
    try:
        rollout = rollout_start(
            actor=actor_of_request(request),
            endpoint_id=endpoint.pk,
            version_id=version.pk,
            strategy=draft.strategy.value,
            profile=draft["profile"],
            guardrails=draft.guardrails(),
            expected_plan_hash=request.POST.get("plan_hash", ""),
            supersede=draft["on_busy"],
            approval=draft.approval(endpoint.target.environment),
            experiment=draft.experiment(),
            keep_warm_seconds=draft.keep_warm_seconds(),
            note=draft["note"],
        )
    except DomainError as error:
        _place(draft, error)
        draft.faults.setdefault("start", error.detail)
        changes = _changes(request, plan) if error.code == "plan_changed" else None
        return _show(
            request, draft, version, endpoint, plan, wanted="start", stays=True, status=409, changes=changes
        )  # fmt: skip
    forget(request)
    return redirect("rollouts:detail", rollout.pk)


def _changes(request: HttpRequest, plan: PlanView | None) -> dict[str, Any]:
    """What differs from the plan that the person saw; empty rows when the page did not say which one that was."""
    seen = shown_plan(request.POST.get("shown_plan", ""), request.POST.get("plan_hash", ""))
    return {"rows": plan_changes(seen, plan.plan) if seen and plan else [], "is_known": seen is not None}


def _chosen(actor: Actor, draft: Draft) -> tuple[ModelVersion | None, Endpoint | None]:
    """What the draft names, as far as it exists; what does not exist is a fault at its field."""
    version = endpoint = None
    if draft["model"]:
        try:
            version = version_by(draft["model"], draft["version"], actor=actor) if draft["version"] else None
            model_get(draft["model"], actor=actor)
        except NotFound as error:
            draft.faults["version"] = error.detail
    if draft["endpoint"]:
        try:
            endpoint = endpoint_get(draft["endpoint"], actor)
        except NotFound as error:
            draft.faults["endpoint"] = error.detail
    return version, endpoint


def _plan(
    actor: Actor, draft: Draft, version: ModelVersion | None, endpoint: Endpoint | None, *, is_asked: bool
) -> PlanView | None:
    """The dry run, as soon as it is known what goes where; its faults are placed at their fields."""
    draft.check_words()
    draft.guardrails()
    draft.experiment()
    draft.keep_warm_seconds()
    if version is None or endpoint is None or draft.faults.keys() - {"on_busy"}:
        return None
    try:
        return plan_view(actor, draft, version, endpoint, has_preflight=is_asked)
    except DomainError as error:
        _place(draft, error)
        return None


def _place(draft: Draft, error: DomainError) -> None:
    names = {"version_id": "version", "endpoint_id": "endpoint", "supersede": "on_busy", "guardrails": "error_limit",
             "steps": "strategy", "approval": "approval",
             "experiment": "ab_metric", "keep_warm_seconds": "keep_warm"}  # fmt: skip
    for item in error.fields:
        first = item.pointer.strip("/").split("/")[0]
        draft.faults.setdefault(names.get(first, first if first in STEP_OF else "version"), item.detail)
    if not error.fields:
        draft.faults.setdefault("plan", error.detail)


def _show(
    request: HttpRequest, draft: Draft, version: ModelVersion | None, endpoint: Endpoint | None,
    plan: PlanView | None, *, wanted: str, stays: bool = False, status: int = 200,
    changes: dict[str, Any] | None = None,
) -> HttpResponse:  # fmt: skip
    step = wanted if wanted in ORDER else "what"
    _require(draft, step)
    faulty = draft.first_faulty_step()
    if faulty and not stays and ORDER.index(faulty) < ORDER.index(step):
        step, status = faulty, 422
    place, actor = ORDER.index(step), actor_of_request(request)
    who_not = why_not_at(actor, "rollout.start", endpoint) if endpoint else why_not(request, "rollout.start")
    context = {
        "draft": draft,
        "faults": {
            name: text
            for name, text in draft.faults.items()
            if stays or ORDER.index(STEP_OF.get(name, "plan")) <= place
        },
        "step": step,
        "steps": _steps(draft, step),
        "hidden": _hidden(draft, step),
        "back_url": _address(draft, ORDER[place - 1]) if place else "",
        "next": ORDER[place + 1] if place + 1 < len(ORDER) else "",
        "next_word": STEPS[place + 1][1] if place + 1 < len(ORDER) else "",
        "version": version,
        "endpoint": endpoint,
        "plan": plan,
        "shown_plan": plan_text(plan.plan) if plan else "",
        "changes": changes,
        "who_not": who_not,
        **_choices(actor, draft, step, version, endpoint),
    }
    # What follows the typing is the panel alone: a whole page would bring a style of another nonce along.
    is_panel = request.headers.get("HX-Target") == "plan-so-far"
    return render(request, "rollouts/wizard/panel.html" if is_panel else "rollouts/wizard.html", context, status=status)


def _require(draft: Draft, step: str) -> None:
    """What earlier steps must have answered before ``step`` can be shown."""
    place = ORDER.index(step)
    if place > ORDER.index("what") and not draft["version"]:
        draft.faults.setdefault("version", "Choose the version that is to be rolled out.")
    if place > ORDER.index("where") and not draft["endpoint"]:
        draft.faults.setdefault("endpoint", "Choose the endpoint that is to serve it.")


def _steps(draft: Draft, step: str) -> list[dict[str, Any]]:
    """The left column: each step with its state and its address, which keeps the draft."""
    faulty = {STEP_OF.get(name, "plan") for name in draft.faults}
    place, rows = ORDER.index(step), []
    for number, (name, word) in enumerate(STEPS):
        state = "now" if name == step else "done" if number < place else "later"
        mark = "wrong" if name in faulty and number < place else state
        rows.append({"word": word, "number": number + 1, "state": mark, "url": _address(draft, name)})
    return rows


def _address(draft: Draft, step: str, typed: Mapping[str, str] | None = None) -> str:
    return f"?{urlencode({**draft.carried, **(typed or {}), 'boxes': '1', 'step': step})}"


def _hidden(draft: Draft, step: str) -> list[tuple[str, str]]:
    """The draft's other values. On the first step model and version go along too: a choice there overrides them."""
    shown = (*SHOWN[step], *(TRIAL_FIELDS if step == "how" and draft.is_ab else ()))
    return draft.rest(shown) + ([(name, draft[name]) for name in ("model", "version")] if step == "what" else [])


def _choices(
    actor: Actor, draft: Draft, step: str, version: ModelVersion | None, endpoint: Endpoint | None
) -> dict[str, Any]:
    if step == "what":
        return {"models": _models(actor, draft, endpoint)}
    if step == "where":
        return _where(actor, draft, version)
    if step == "how":
        profiles = [{"value": value, "word": word} for value, word in PROFILE_WORDS.items()]
        mirrors = endpoint is None or capabilities_of(endpoint.target).mirror != "no"
        return {
            "cards": [
                {**card, "why_not": "" if mirrors or card["value"] != "shadow" else "This target cannot copy requests."}
                for card in CARDS
            ],
            "profiles": profiles,
            "metrics": METRICS,
            "units": UNITS,
            "thens": THEN,
            "usual_warm": TIMINGS[draft["profile"]].warm if draft["profile"] in TIMINGS else 0,
            "keeps_idle": endpoint is None or capabilities_of(endpoint.target).keeps_idle,
            **_approvals(actor, draft, endpoint),
        }
    return {}


def _approvals(actor: Actor, draft: Draft, endpoint: Endpoint | None) -> dict[str, Any]:
    """The choice of an approval, with who could give it at the chosen endpoint."""
    environment = endpoint.target.environment if endpoint else ""
    chosen = draft.approval_word(environment)
    quorum = APPROVALS.get(chosen, 0)  # nobody is asked: then it does not matter who could
    return {
        "approvals": [
            {"value": value, "word": word, "sub": sub, "is_chosen": value == chosen}
            for value, word, sub in APPROVAL_CARDS
        ],
        "is_production": environment == PRODUCTION,
        "has_approval": draft["strategy"] != Strategy.SHADOW,
        "is_recreate": draft["strategy"] == Strategy.RECREATE,
        "approvers": approvers_words(actor, endpoint, quorum) if endpoint and quorum else None,
    }


def _where(actor: Actor, draft: Draft, version: ModelVersion | None) -> dict[str, Any]:
    """The endpoints; ``stuck`` when none of them can take the version: then there is no next step from here."""
    rows = _endpoints(actor, draft, version)
    stuck = version is not None and all(row["why_not"] for row in rows)
    return {"endpoints": rows, "stuck": stuck, "base_url": settings.PILOTHOUSE_BASE_URL}


def _models(actor: Actor, draft: Draft, endpoint: Endpoint | None) -> list[dict[str, Any]]:
    """Every model with its versions, newest first; ``why_not`` where one cannot stand in at the chosen endpoint. Of
    several models the newest few versions each, the others under ``older``."""
    found = [one for one in model_list(actor=actor) if endpoint is None or one.pk == endpoint.model_id]
    rows = []
    for model in found:
        versions = sorted(model.versions.all(), key=lambda item: item.number, reverse=True)
        items = [{"version": item, "why_not": unfit_sentence(item, endpoint)} for item in versions]
        shown = NEWEST_SHOWN if len(found) > 1 else len(items)
        chosen = draft["version"] if model.name == draft["model"] else ""
        is_older_chosen = chosen in {item.semver for item in versions[shown:]}
        found_row = {"versions": items[:shown], "older": items[shown:], "is_older_chosen": is_older_chosen}
        rows.append({"model": model, **found_row})
    return rows


def _endpoints(actor: Actor, draft: Draft, version: ModelVersion | None) -> list[dict[str, Any]]:
    busy = dict(rollout_list(actor, is_active=True).values_list("endpoint_id", "pk"))
    found = endpoint_list(actor)
    if draft["model"]:
        found = found.filter(model__name=draft["model"])
    return [
        {
            "endpoint": item,
            "busy": busy.get(item.pk),
            "why_not": unfit_sentence(version, item) if version else "",
            "who_not": why_not_at(actor, "rollout.plan", item),
        }
        for item in found
    ]
