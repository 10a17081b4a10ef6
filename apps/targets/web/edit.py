"""Changing a connected target: its form as it stands, then what would change and what the target says, then saving."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import cache_control

from apps.accounts.web_access import actor_of_request, declares
from apps.kernel.errors import DomainError, InvalidInput
from apps.kernel.vault import Place, VaultFault, open_sealed, seal
from apps.targets.models import Target
from apps.targets.selectors import target_get
from apps.targets.services.update import TargetChange, target_change, target_update
from apps.targets.web.connect import faults_of, form_context, typed_in
from apps.targets.web.connect_fields import (
    FORMS,
    UNSAID,
    connection_of,
    credentials_of,
    drop,
    secrets_of,
    typed_of,
)


@dataclass(frozen=True, slots=True)
class Line:
    """One difference as people read it."""

    field: str
    before: str
    after: str


@declares({"GET": "target.read", "POST": "target.write"})
@cache_control(private=True, no_store=True)
def edit(request: HttpRequest, target: str) -> HttpResponse:
    """GET shows the form. POST ``look`` shows what would change, with the target asked; POST ``save`` stores it; POST
    ``back`` returns to the form with what was typed. Raises NotFound."""
    found = target_get(target, actor_of_request(request))
    if found.kind not in FORMS:
        raise InvalidInput.at("/kind", "not_editable", f"{found.name} is {found.kind}: change it by the API.")
    if request.method != "POST":
        return _form(request, found, _typed_now(found), {})
    typed = typed_in(request)
    if typed.get("do") == "back":
        return _form(request, found, typed, {})
    revision = typed.get("revision", "")
    if not revision.isdecimal() or len(revision) > 18:
        raise InvalidInput.at("/revision", "required", "revision is missing: load the page again.")
    try:
        change = _change(request, found, typed)
        if typed.get("do") == "save":
            target_update(
                actor=actor_of_request(request),
                change=change,
                expected_revision=int(revision),
                even_if_silent=typed.get("even_if_silent") == "on",
            )
            messages.success(request, f"{found.name} is changed.")
            return redirect("settings:targets")
    except DomainError as error:
        status = 409 if error.code in {"stale_revision", "under_way", "endpoints_served", "build_under_way"} else 422
        return _form(request, found, typed, faults_of(found.kind, error), status=status)
    return _look(request, found, typed, change)


def _change(request: HttpRequest, target: Target, typed: dict[str, str]) -> TargetChange:
    connection, own = connection_of(target.kind, typed)
    for path, usual in UNSAID.items():  # what was left unsaid and is what it means anyway has not changed
        if typed.get(path) == usual:
            drop(connection, path, unless_in=target.connection)
    return target_change(
        actor=actor_of_request(request),
        target_id=target.pk,
        environment=typed.get("environment", ""),
        no_traffic_policy=typed.get("no_traffic_policy", ""),
        connection=connection,
        credentials=_credentials(target, typed) or None,
        found=own,
    )


def _credentials(target: Target, typed: dict[str, str]) -> dict[str, str | None]:
    """What was typed now or on the page before; None for what another mode, or a file, has taken the place of."""
    given: dict[str, str | None] = {**_opened(target, typed.get("sealed", "")), **credentials_of(target.kind, typed)}
    if not target.credentials:
        return given
    here = {field.name.removeprefix("credentials.") for field in secrets_of(target.kind, typed.get("auth.mode", ""))}
    every = {
        field.name.removeprefix("credentials.")
        for group in FORMS[target.kind] for field in group.fields if field.kind == "secret"
    }  # fmt: skip
    for secret in sorted(every - given.keys()):
        if secret not in here or typed.get(f"auth.{secret}_file"):
            given[secret] = None
    return given


def _look(request: HttpRequest, target: Target, typed: dict[str, str], change: TargetChange) -> HttpResponse:
    """What would change. What was typed goes along; secrets sealed, for this target and its next page only."""
    secrets = {key: value for key, value in (_credentials(target, typed)).items() if value is not None}
    kept = {key: value for key, value in typed.items() if not key.startswith("credentials.") and key not in _OWN}
    context = {
        "tab": "targets",
        "target": target,
        "change": change,
        "lines": [Line(one.path.removeprefix("connection."), _said(one.before), _said(one.after))
                  for one in change.differences],
        "kept": sorted(kept.items()),
        "sealed": seal(orjson.dumps(secrets).decode(), _place(target)) if secrets else "",
        "revision": typed.get("revision", ""),
    }  # fmt: skip
    return render(request, "targets/settings_edit_look.html", context)


def _form(
    request: HttpRequest, target: Target, typed: dict[str, str], faults: dict[str, str], status: int = 200
) -> HttpResponse:
    shown = form_context(actor_of_request(request), target.kind, typed, faults)
    context = {
        **shown,
        "target": target,
        "why_not": dict(shown["environments"])[target.environment],
        "is_edit": True,
        # a form that comes back was compared with the row as it is now: saving it is a decision made after looking
        "revision": target.revision,
    }
    return render(request, "targets/settings_edit.html", context, status=status)


def _typed_now(target: Target) -> dict[str, str]:
    return {
        "environment": target.environment,
        "no_traffic_policy": target.no_traffic_policy,
        **typed_of(target.kind, target.connection),
    }


def _opened(target: Target, sealed: str) -> dict[str, str]:
    try:
        found: dict[str, str] = orjson.loads(open_sealed(sealed, _place(target))) if sealed else {}
    except VaultFault as fault:
        raise InvalidInput(
            "sealed_lost", "What was typed as credentials cannot be read any more; type it again."
        ) from (fault)
    return found


def _place(target: Target) -> Place:
    """Bound to the target and its revision: sealed text of another page, or of one before a change, does not open."""
    return Place("targets_target", f"{target.pk}@{target.revision}", "credentials-typed")


def _said(value: Any) -> str:
    if value is None:
        return "–"
    return value if isinstance(value, str) else orjson.dumps(value).decode()


_OWN = frozenset({"csrfmiddlewaretoken", "do", "sealed", "revision", "even_if_silent"})
