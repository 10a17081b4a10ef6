"""Models, one model, one version. Where a version is live is another room's knowledge: its fragment is asked by URL."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from apps.accounts.web_access import declares
from apps.registry.models import ModelVersion
from apps.registry.selectors import alias_list, model_get, model_list, version_by, version_list


@declares("model.read")
def models(request: HttpRequest) -> HttpResponse:
    """Every model with its newest version and its aliases."""
    rows = []
    for item in model_list():
        versions = sorted(item.versions.all(), key=lambda version: version.number)
        rows.append({"model": item, "count": len(versions), "newest": versions[-1] if versions else None})
    return render(request, "registry/models.html", {"rows": rows, "base_url": settings.PILOTHOUSE_BASE_URL})


@declares("model.read")
def model(request: HttpRequest, name: str) -> HttpResponse:
    """One model's versions, newest first. Raises NotFound."""
    found, versions = model_get(name), version_list(name)
    metrics = sorted({key for version in versions for key in version.metrics})[:4]
    rows = [
        {"version": version, "metrics": [(key, version.metrics.get(key)) for key in metrics]} for version in versions
    ]
    context = {"model": found, "rows": rows, "metrics": metrics, "aliases": alias_list(name)}
    return render(request, "registry/model.html", context | {"base_url": settings.PILOTHOUSE_BASE_URL})


@declares("model.read")
def version(request: HttpRequest, name: str, reference: str) -> HttpResponse:
    """One version by semver, number or alias. Raises NotFound."""
    found = version_by(name, reference)
    aliases = [alias for alias in alias_list(name) if alias.version_id == found.pk]
    context = {
        "model": found.model,
        "version": found,
        "aliases": aliases,
        "inputs": _columns(found),
        "outputs": found.signature.get("outputs", []),
        "metrics": sorted(found.metrics.items()),
        "params": sorted(found.params.items()),
    }
    return render(request, "registry/version.html", context)


def _columns(version: ModelVersion) -> list[dict[str, Any]]:
    """The inputs with their declared constraints in words."""
    rows = []
    for column in version.signature.get("inputs", []):
        declared = version.input_constraints.get(column["name"], {})
        rows.append({**column, "nullable": declared.get("nullable", False), "allowed": _allowed(declared)})
    return rows


def _allowed(declared: dict[str, Any]) -> str:
    values = declared.get("values")
    if values:
        shown = ", ".join(str(value) for value in values[:8])
        return shown if len(values) <= 8 else f"{shown} and {len(values) - 8} more"
    low, high = declared.get("min"), declared.get("max")
    if low is not None and high is not None:
        return f"{low:g} to {high:g}"
    if low is not None:
        return f"at least {low:g}"
    return f"at most {high:g}" if high is not None else "any value of the type"
