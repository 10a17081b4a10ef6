"""The list of models: searched, ordered, a page at a time."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from apps.accounts.web_access import actor_of_request, declares, why_not
from apps.kernel.errors import InvalidInput
from apps.registry.models import Model
from apps.registry.selectors.pages import Listing, aliases_of, models_found, teams_seen, versions_in
from apps.registry.web.cards import plain
from apps.registry.web.doors import faults_of
from apps.registry.web.shown import register_lines, story_brief

PER_PAGE = 50
SORT_WORDS = (("changed", "Last changed"), ("name", "Name"), ("registered", "Newest"))


@declares("model.read")
def models(request: HttpRequest) -> HttpResponse:
    """``q``, ``team``, ``sort`` and ``after`` are the whole state of the page, so its address can be shared."""
    asked = {name: request.GET.get(name, "").strip() for name in ("q", "team", "sort", "after")}
    faults: dict[str, str] = {}
    actor = actor_of_request(request)
    try:
        found = models_found(
            actor,
            text=asked["q"],
            sort=asked["sort"] or "changed",
            team=asked["team"],
            after=asked["after"],
            limit=PER_PAGE,
        )
    except InvalidInput as fault:
        faults, found = faults_of(fault), Listing([], "")
    kept = {name: value for name, value in asked.items() if value and name != "after"}
    context = {
        "rows": _rows(found.rows),
        "asked": asked,
        "faults": faults,
        "teams": teams_seen(actor),
        "sorts": SORT_WORDS,
        "is_filtered": bool(asked["q"] or asked["team"]),
        "following": urlencode({**kept, "after": found.following}) if found.following else "",
        "first": urlencode(kept),
        "lines": register_lines("churn"),
        "why_not_register": why_not(request, "model.register"),
        "why_not_import": why_not(request, "registry.import"),
    }
    return render(request, "registry/models.html", context, status=422 if faults else 200)


def _rows(models: list[Model]) -> list[dict[str, Any]]:
    newest = versions_in(one.newest for one in models if one.newest)  # type: ignore[attr-defined]
    aliases: dict[str, list[Any]] = {}
    for alias in aliases_of(models):
        aliases.setdefault(alias.model_id, []).append(alias)
    rows = []
    for one in models:
        version = newest.get(one.newest)  # type: ignore[attr-defined]
        rows.append(
            {
                "model": one,
                "said": plain(one.description),
                "count": one.count or 0,  # type: ignore[attr-defined]
                "newest": version,
                "brief": story_brief(version) if version else None,
                "aliases": aliases.get(one.pk, []),
            }
        )
    return rows
