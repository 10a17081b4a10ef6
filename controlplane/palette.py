"""Ctrl-K: pages, endpoints, models and rollouts by name, as one fragment."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import cache_control

from apps.accounts.web_access import declares
from apps.registry.selectors import model_list
from apps.rollouts.selectors import rollout_list
from apps.targets.selectors import endpoint_list

MOST = 6
LONGEST = 80
PAGES = (
    ("Fleet", "fleet"),
    ("Rollouts", "rollouts:list"),
    ("New rollout", "rollouts:new"),
    ("Models", "registry:models"),
    ("Targets", "settings:targets"),
    ("Freeze windows", "settings:freezes"),
    ("Account and API keys", "accounts:account"),
    ("API reference", "api_docs"),
)


@dataclass(frozen=True, slots=True)
class Hit:
    """One line: ``state`` is a stored state for a shape and word, or empty."""

    title: str
    about: str
    url: str
    state: str = ""


@declares("fleet.read")
@cache_control(private=True, no_store=True)
def found(request: HttpRequest) -> HttpResponse:
    """What fits every word of ``q``; without one, the pages and the newest rollouts."""
    words = request.GET.get("q", "")[:LONGEST].lower().split()
    groups = [("Endpoints", _endpoints(words)), ("Models", _models(words)), ("Rollouts", _rollouts(words)),
              ("Pages", _pages(words))]  # fmt: skip
    context = {"groups": [(name, hits) for name, hits in groups if hits], "q": " ".join(words)}
    return render(request, "palette.html", context)


def _fits(words: list[str], *texts: str) -> bool:
    whole = " ".join(texts).lower()
    return all(word in whole for word in words)


def _pages(words: list[str]) -> list[Hit]:
    return [Hit(title, "", reverse(name)) for title, name in PAGES if _fits(words, title)]


def _endpoints(words: list[str]) -> list[Hit]:
    rows = endpoint_list()
    for word in words:
        rows = rows.filter(Q(name__icontains=word) | Q(model__name__icontains=word) | Q(target__name__icontains=word))
    return [
        Hit(row.name, f"on {row.target.name}, {row.target.environment}", reverse("targets:endpoint", args=[row.name]))
        for row in rows[:MOST]
    ]


def _models(words: list[str]) -> list[Hit]:
    """Models by name; a version too, once a word names it."""
    hits = []
    for model in model_list():
        if _fits(words, model.name):
            hits.append(Hit(model.name, model.description, reverse("registry:model", args=[model.name])))
        for version in model.versions.all() if words else ():
            if any(version.semver.startswith(word) for word in words) and _fits(words, model.name, version.semver):
                place = reverse("registry:version", args=[model.name, version.semver])
                hits.append(Hit(f"{model.name} {version.semver}", version.description, place))
    return hits[:MOST]


def _version_begins(word: str) -> Q:
    """The candidate's version begins with the numbers of ``word``: "1.1" fits 1.1.0 and 1.1.7."""
    parts = word.split(".")
    if len(parts) > 3 or not all(part.isascii() and part.isdigit() and len(part) < 9 for part in parts):
        return Q(pk__in=[])
    names = ("candidate_version__major", "candidate_version__minor", "candidate_version__patch")
    return Q(**{name: int(part) for name, part in zip(names, parts, strict=False)})


def _rollouts(words: list[str]) -> list[Hit]:
    rows = rollout_list()
    for word in words:
        rows = rows.filter(
            Q(endpoint__name__icontains=word)
            | _version_begins(word)
            | Q(phase__icontains=word.replace(" ", "_"))
            | Q(pk__iexact=word)
        )
    return [
        Hit(
            f"{row.candidate_version.semver} on {row.endpoint.name}",
            f"over {row.stable_version.semver}",
            reverse("rollouts:detail", args=[row.pk]),
            row.phase,
        )
        for row in rows[:MOST]
    ]
