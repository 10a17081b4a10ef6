"""One model: its versions, aliases and their history, requests, tags, and what can be done to it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse

from apps.accounts.web_access import actor_of_request, declares, why_not_of
from apps.kernel.errors import InvalidInput
from apps.registry.models import Alias, AliasMove, Model, ModelVersion
from apps.registry.selectors.pages import (
    SHOWN,
    Deployment,
    aliases_of,
    deployments_of,
    model_seen,
    moves_of,
    promotions_of,
    served_at,
    versions_below,
)
from apps.registry.services.aliases import alias_move, alias_remove
from apps.registry.services.catalogue import (
    model_delete,
    model_describe,
    model_protect,
    model_tag_remove,
    model_tag_set,
)
from apps.registry.web.cards import markdown, plain
from apps.registry.web.doors import Faults, attempt, require
from apps.registry.web.following import Followers, followers_of
from apps.registry.web.shown import (
    badge_of,
    common_metrics,
    is_loadable,
    load_lines,
    register_lines,
    stage_word,
    story_brief,
)

PER_PAGE = 25
MOVES_SHOWN = 8
CHAMPION = "champion"
SHOWN_WORDS = (("", "All"), ("ready", "Verified"), ("unverified", "Unverified"), ("pending", "Being checked"),
               ("failed", "Refused"), ("archived", "Archived"))  # fmt: skip
ACTIONS = {
    "write": "model.write",
    "register": "model.register",
    "delete": "model.delete",
    "move": "alias.move",
    "protect": "policy.write",
}


@declares("model.read")
def model(request: HttpRequest, name: str) -> HttpResponse:
    """``show`` and ``below`` say which versions, ``on`` asks what every alias served then. Raises NotFound."""
    return _page(request, model_seen(actor_of_request(request), name))


@declares({"POST": "model.write"})
def describe(request: HttpRequest, name: str) -> HttpResponse:
    """The description, Markdown."""
    text = request.POST.get("description", "").replace("\r\n", "\n").strip()
    return _change(
        request,
        name,
        "model.write",
        lambda: model_describe(actor=actor_of_request(request), name=name, description=text),
        done="The description is changed.",
    )


@declares({"POST": "model.write"})
def tag(request: HttpRequest, name: str) -> HttpResponse:
    """Sets a tag, or with ``remove`` takes one away."""
    actor, key = actor_of_request(request), request.POST.get("key", "").strip()

    def change() -> None:
        if request.POST.get("remove"):
            model_tag_remove(actor=actor, name=name, key=key)
        else:
            model_tag_set(actor=actor, name=name, key=key, value=request.POST.get("value", "").strip())

    return _change(request, name, "model.write", change, done=f"The tag {key} is changed.")


@declares({"POST": "alias.move"})
def alias(request: HttpRequest, name: str) -> HttpResponse:
    """Points an alias at a version, or with ``remove`` takes it away; a protected one becomes a request."""
    actor = actor_of_request(request)
    word, version = request.POST.get("alias", "").strip(), request.POST.get("version", "").strip()

    def change() -> None:
        if request.POST.get("remove"):
            alias_remove(actor=actor, model_name=name, alias=word)
        elif not version:
            raise InvalidInput.at("/version", "required", "Choose the version that it should point at.")
        else:
            alias_move(actor=actor, model_name=name, alias=word, version=version, expected=request.POST.get("expected"))

    said = f"{word} is removed." if request.POST.get("remove") else f"{word} points at {version}."
    return _change(request, name, "alias.move", change, done=said)


@declares({"POST": "policy.write"})
def protect(request: HttpRequest, name: str) -> HttpResponse:
    """Which aliases move by a promotion request only, with the reason."""
    actor = actor_of_request(request)
    wanted = request.POST.get("aliases", "").replace(",", " ").split()

    def change() -> None:
        model_protect(actor=actor, name=name, aliases=wanted, reason=request.POST.get("reason", ""))

    return _change(request, name, "policy.write", change, done="The protected aliases are changed.")


@declares({"POST": "model.delete"})
def delete(request: HttpRequest, name: str) -> HttpResponse:
    """Hides the model after its name was typed; refused, with the places, while an endpoint runs it."""
    actor = actor_of_request(request)
    found = model_seen(actor, name)
    require(request, "model.delete", found)

    def remove() -> None:
        if request.POST.get("confirm", "").strip() != name:
            raise InvalidInput.at("/confirm", "not_confirmed", f"Type {name} to delete it; nothing was deleted.")
        model_delete(actor=actor, name=name)

    done = f"{name} is deleted. Its history and numbers are kept; a model of that name goes on counting."
    return attempt(
        request, remove, done=done, then=reverse("registry:models"), refused=lambda f, s: _page(request, found, f, s)
    )


def _change(request: HttpRequest, name: str, action: str, do: Callable[[], object], *, done: str) -> HttpResponse:
    found = model_seen(actor_of_request(request), name)
    require(request, action, found)
    place = reverse("registry:model", args=[name])
    return attempt(request, do, done=done, then=place, refused=lambda f, s: _page(request, found, f, s))


def _page(request: HttpRequest, found: Model, faults: Faults | None = None, status: int = 200) -> HttpResponse:
    actor = actor_of_request(request)
    shown = request.GET.get("show", "") if request.GET.get("show", "") in SHOWN else ""
    below = request.GET.get("below", "")
    if below and not (below.isascii() and below.isdigit() and len(below) < 10):
        return redirect("registry:model", found.name)
    versions = versions_below(found, below=int(below) if below else None, shown=shown, limit=PER_PAGE + 1)
    aliases, places = aliases_of([found]), deployments_of(actor, found)
    then, asked_at, fault_at = _asked_at(request, found)
    metrics = common_metrics(versions[:PER_PAGE])
    context: dict[str, Any] = {
        "model": found,
        "description": markdown(found.description) if found.description else "",
        "metrics": metrics,
        "rows": [_row(one, metrics, aliases, places) for one in versions[:PER_PAGE]],
        "older": versions[PER_PAGE - 1].number if len(versions) > PER_PAGE else None,
        "is_first_page": not below,
        "shown": shown,
        "shown_words": SHOWN_WORDS,
        "aliases": _aliases(found, aliases, followers_of(actor, found)),
        "protected": " ".join(sorted(found.protected_aliases)),
        "moves": moves_of(found, MOVES_SHOWN),
        "then": then,
        "asked_at": asked_at,
        "promotions": promotions_of(found),
        "tags": list(found.tags.order_by("key")),
        "places": places,
        "lines": register_lines(found.name),
        "load": _load(found, aliases, [] if below or shown else versions),
        "faults": {**(faults or {}), **fault_at},
        "typed": request.POST,
        "why_not": {name: why_not_of(request, action, found) for name, action in ACTIONS.items()},
    }
    return render(request, "registry/model.html", context, status=status)


def _row(one: ModelVersion, metrics: list[str], aliases: list[Alias], places: list[Deployment]) -> dict[str, Any]:
    return {
        "version": one,
        "said": plain(one.description),
        "brief": story_brief(one),
        "stage": stage_word(one),
        "badge": badge_of(one),
        "metrics": [(name, one.metrics.get(name)) for name in metrics],
        "aliases": [alias.name for alias in aliases if alias.version_id == one.pk],
        "places": [place for place in places if place.key == one.variant_key],
    }


def _aliases(found: Model, rows: list[Alias], followers: dict[str, Followers]) -> list[dict[str, Any]]:
    """Every alias, and the names that are protected or followed and point nowhere yet."""
    here: dict[str, Alias | None] = {row.name: row for row in rows}
    free = sorted({*found.protected_aliases, *followers} - here.keys())
    return [
        {
            "name": name,
            "row": here.get(name),
            "is_protected": name in found.protected_aliases,
            "followers": followers.get(name),
        }
        for name in [*here, *free]
    ]


def _load(found: Model, aliases: list[Alias], newest: list[ModelVersion]) -> str:
    """The lines that load what one should: the champion, else the newest version; "" while none is verified.

    ``newest`` are the newest versions as far as the page has read them already.
    """
    champion = next((row.version for row in aliases if row.name == CHAMPION), None)
    if champion is not None and is_loadable(champion):
        return load_lines(f"{found.name}@{CHAMPION}")
    ready = [one for one in newest if is_loadable(one)] or versions_below(found, below=None, shown="ready", limit=1)
    return load_lines(f"{found.name}/{ready[0].number}") if ready else ""


def _asked_at(request: HttpRequest, found: Model) -> tuple[list[AliasMove] | None, str, dict[str, str]]:
    """(what the aliases served then or None, the time as it was typed, faults)."""
    text = request.GET.get("on", "").strip()
    if not text:
        return None, "", {}
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None, text, {"on": f"{text[:40]!r} is no time; write it like 2026-12-24T18:00, in UTC."}
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return served_at(found, moment), text, {}
