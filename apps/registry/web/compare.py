"""Two versions side by side: may the right one take over the left one's callers, and what is different about it?"""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from apps.accounts.web_access import actor_of_request, declares
from apps.kernel.errors import NotFound
from apps.registry.models import Model, ModelVersion
from apps.registry.selectors.pages import aliases_of, model_seen, version_seen, versions_below
from apps.registry.web.cards import markdown, skeleton
from apps.registry.web.differences import breaks_of, fields_of, metrics_of, pairs_of
from apps.registry.web.shown import badge_of

CHOICES = 50


@declares("model.read")
def compare(request: HttpRequest, name: str) -> HttpResponse:
    """``a`` is what callers have, ``b`` what they would get; each a semver, number or alias. Raises NotFound."""
    actor = actor_of_request(request)
    model = model_seen(actor, name)
    choices = versions_below(model, below=None, shown="", limit=CHOICES)
    asked = {side: request.GET.get(side, "").strip() for side in ("a", "b")}
    faults: dict[str, str] = {}
    found: dict[str, ModelVersion] = {}
    for side, reference in asked.items():
        try:
            if reference:
                found[side] = version_seen(actor, name, reference)
        except NotFound as fault:
            faults[side] = fault.detail
    if not faults:
        found = _defaults(model, choices, found, actor, name)
    context: dict[str, Any] = {"model": model, "choices": choices, "faults": faults, "asked": asked}
    if len(found) == 2:
        context |= _compared(found["a"], found["b"])
    return render(request, "registry/compare.html", context, status=404 if faults else 200)


def _defaults(
    model: Model, choices: list[ModelVersion], found: dict[str, ModelVersion], actor: Any, name: str
) -> dict[str, ModelVersion]:
    """Where a side was left open: a protected alias or the second newest on the left, the newest on the right."""
    if len(found) == 2 or not choices:
        return found
    right = found.get("b") or version_seen(actor, name, choices[0].reference)
    left = found.get("a")
    if left is None:
        held = [one.version for one in aliases_of([model]) if one.name in model.protected_aliases]
        others = [one for one in [*held, *choices[1:], *choices] if one.pk != right.pk]
        left = version_seen(actor, name, others[0].reference) if others else right
    return {"a": left, "b": right}


def _compared(a: ModelVersion, b: ModelVersion) -> dict[str, Any]:
    params = pairs_of(a.params, b.params)
    metrics = metrics_of(a, b)
    is_other_data = bool(a.metrics_data_digest and b.metrics_data_digest) and (
        a.metrics_data_digest != b.metrics_data_digest
    )
    return {
        "a": a,
        "b": b,
        "is_one": a.pk == b.pk,
        "breaks": breaks_of(a, b),
        "inputs": fields_of(a, b, "inputs"),
        "outputs": fields_of(a, b, "outputs"),
        "metrics": metrics,
        "is_other_data": is_other_data,
        "params": params,
        "params_changed": sum(not one.is_same for one in params),
        "profile": pairs_of(_profile(a), _profile(b)),
        "facts": _facts(a, b),
        "cards": [(one, markdown(one.card or skeleton(one)), not one.card) for one in (a, b)],
    }


def _facts(a: ModelVersion, b: ModelVersion) -> list[Any]:
    def said(one: ModelVersion) -> dict[str, Any]:
        badge = badge_of(one)
        return {
            "Format": badge.word if badge else "not looked at",
            "Framework": one.flavor or "–",
            "Artifact": _short(one.artifact_digest),
            "Data of the metrics": _short(one.metrics_data_digest),
            "Commit": one.git_commit[:12] or "–",
            "Registered by": one.created_by,
        }

    left, right = said(a), said(b)
    left["Size"], right["Size"] = a.size_bytes, b.size_bytes
    return pairs_of(left, right)


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12] or "–"


def _profile(version: ModelVersion) -> dict[str, str]:
    """What the inputs looked like at training time, one line per column."""
    columns = version.reference_profile.get("columns", version.reference_profile)
    if not isinstance(columns, dict):
        return {}
    return {str(name): _line(about) for name, about in columns.items()}


def _line(about: Any) -> str:
    if not isinstance(about, dict):
        return str(about)[:120]
    parts = [
        f"{key} {value:,.4g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in about.items()
        if isinstance(value, int | float | str)
    ]
    return ", ".join(parts[:6])
