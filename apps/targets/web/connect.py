"""Connecting a target: first its kind, then the fields of that kind; it is probed right after."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from apps.accounts.web_access import actor_of_request, declares
from apps.kernel.actor import Actor
from apps.kernel.errors import DomainError
from apps.targets.models import Environment, TrafficPolicy
from apps.targets.selectors import facts_of, target_get
from apps.targets.services.connect import target_create, target_probe
from apps.targets.services.scope import why_not_shared
from apps.targets.web.connect_fields import FORMS, connection_of, credentials_of, defaults_of, field_of, worded
from apps.targets.web.targets import POLICIES

KINDS = (
    ("kubernetes", "Kubernetes", "One namespace of a cluster. Pilothouse writes plain objects there."),
    ("local", "One machine", "A node agent that runs processes behind a gateway of its own."),
)
COMMON = {"environment": Environment.DEVELOPMENT.value, "no_traffic_policy": TrafficPolicy.HOLD.value}
LONGEST, LONGEST_SECRET = 4000, 200_000


@declares({"GET": "target.read", "POST": "target.write"})
def connect(request: HttpRequest) -> HttpResponse:
    """GET shows the kinds, or the fields of ``?kind=``. POST connects; what was typed stays when it is refused."""
    asked = request.POST if request.method == "POST" else request.GET
    kind = asked.get("kind", "")
    if kind not in FORMS:
        return _page(request, "", {}, {}, status=422 if request.method == "POST" else 200)
    if request.method != "POST":
        return _page(request, kind, {**COMMON, **defaults_of(kind)}, {})
    typed = typed_in(request)
    actor = actor_of_request(request)
    connection, own = connection_of(kind, typed)
    try:
        target = target_create(
            actor=actor,
            name=typed.get("name", ""),
            kind=kind,
            environment=typed.get("environment", ""),
            connection=connection,
            credentials=credentials_of(kind, typed),
            no_traffic_policy=typed.get("no_traffic_policy", ""),
            found=own,
        )
    except DomainError as error:
        return _page(request, kind, typed, faults_of(kind, error), status=422)
    target_probe(actor=actor, target_id=target.pk)
    _tell(request, target.pk)
    return redirect("settings:targets")


def typed_in(request: HttpRequest) -> dict[str, str]:
    """What was typed, each as long as it may be."""
    return {name: str(value).strip()[: _longest_of(name)] for name, value in request.POST.items()}


def faults_of(kind: str, error: DomainError) -> dict[str, str]:
    """Field of the form -> what is wrong there; under "" what has no field."""
    faults: dict[str, str] = {"name": error.detail} if error.code == "name_taken" else {}
    for item in error.fields:
        name, said = field_of(kind, item.pointer), worded(kind, item.pointer, item.detail)
        faults[name] = f"{faults[name]} {said}" if name in faults else said
    return faults or {"": error.detail}


def _longest_of(name: str) -> int:
    return LONGEST_SECRET if name.startswith("credentials.") else LONGEST


def _tell(request: HttpRequest, target_id: str) -> None:
    target = target_get(target_id)
    if target.probe_error:
        messages.error(request, f"{target.name} is connected but does not answer: {target.probe_error}")
    elif facts_of(target).get("missing_rights"):
        messages.warning(request, f"{target.name} is connected; rights are missing there, the Role is printed below.")
    else:
        messages.success(request, f"{target.name} is connected: version {target.capabilities.get('version', '')}.")


def _page(
    request: HttpRequest, kind: str, typed: dict[str, str], faults: dict[str, str], status: int = 200
) -> HttpResponse:
    shown = form_context(actor_of_request(request), kind, typed, faults)
    whys = [why for _, why in shown["environments"]]
    context = {
        **shown,
        "kinds": KINDS,
        "kind": kind,
        "why_not": whys[0] if all(whys) else "",
        "roots": [str(root) for root in settings.PILOTHOUSE_TOKEN_ROOTS],
    }
    return render(request, "targets/settings_connect.html", context, status=status)


def form_context(actor: Actor, kind: str, typed: dict[str, str], faults: dict[str, str]) -> dict[str, Any]:
    """What the forms of a new target and of a known one show. ``environments``: (name, why not)."""
    return {
        "tab": "targets",
        "groups": [_shown(group, typed, faults) for group in FORMS.get(kind, ())],
        "typed": typed,
        "faults": faults,
        "fault": faults.get("", ""),
        "environments": [(one.value, why_not_shared(actor, "target.write", one.value)) for one in Environment],
        "policies": [(name.value, word) for name, word in POLICIES.items()],
    }


def _shown(group: Any, typed: dict[str, str], faults: dict[str, str]) -> dict[str, Any]:
    every = [value for value, _, _ in group.choices]
    return {
        "title": group.title,
        "chooses": group.chooses,
        "choices": group.choices,
        "chosen": typed.get(group.chooses, ""),
        "fault": faults.get(group.chooses, "") if group.chooses else "",
        "fields": [
            {
                "field": field,
                "value": "" if field.kind == "secret" else typed.get(field.name, ""),
                "fault": faults.get(field.name, ""),
                "is_again": field.kind == "secret" and bool(typed.get(field.name)),
                "hidden_by": " ".join(
                    f"not-{value.replace('_', '-')}"
                    for value in every
                    if field.only and value not in field.only.split()
                ),
            }
            for field in group.fields
        ],
    }
