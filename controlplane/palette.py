"""Ctrl-K: pages, endpoints, models, rollouts and sequences by name, as one fragment."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import cache_control

from apps.accounts.domain.doors import SIGNED_IN
from apps.accounts.web_access import actor_of_request, allows, declares
from apps.kernel.actor import Actor
from apps.registry.selectors import models_named, versions_named
from apps.rollouts.domain.machine import word_of
from apps.rollouts.selectors import rollout_list, sequence_list
from apps.targets.selectors import endpoint_list
from controlplane.context import ROOMS, SETTINGS

MOST = 6
LONGEST = 80
# (title, URL name, what one needs to open it)
PAGES = (
    *((room.word, room.name, room.needs) for room in ROOMS if room.word != "Settings"),
    ("New rollout", "rollouts:new", "rollout.plan"),
    ("Sequences: one version to several endpoints in waves", "rollouts:sequences", "rollout.read"),
    ("New sequence: several endpoints, wave after wave", "rollouts:sequence_new", "rollout.plan"),
    *((word, name, needs) for name, word, _, needs in SETTINGS),
    ("Account and API keys", "accounts:account", SIGNED_IN),
    ("Second factors and passkeys", "mfa_index", SIGNED_IN),
    ("Change the password", "account_change_password", SIGNED_IN),
    ("API reference", "api_docs", SIGNED_IN),
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
    actor = actor_of_request(request)
    words = request.GET.get("q", "")[:LONGEST].lower().split()
    groups = [
        ("Endpoints", _endpoints(actor, words)),
        ("Models", _models(actor, words)),
        ("Rollouts", _rollouts(actor, words)),
        ("Sequences", _sequences(actor, words)),
        ("Pages", _pages(request, words)),
    ]
    context = {"groups": [(name, hits) for name, hits in groups if hits], "q": " ".join(words)}
    return render(request, "palette.html", context)


def _fits(words: list[str], *texts: str) -> bool:
    whole = " ".join(texts).lower()
    return all(word in whole for word in words)


def _pages(request: HttpRequest, words: list[str]) -> list[Hit]:
    return [
        Hit(title, "", reverse(name))
        for title, name, needs in PAGES
        if _fits(words, title) and (needs == SIGNED_IN or allows(request, needs))
    ]


def _endpoints(actor: Actor, words: list[str]) -> list[Hit]:
    rows = endpoint_list(actor=actor)
    for word in words:
        rows = rows.filter(Q(name__icontains=word) | Q(model__name__icontains=word) | Q(target__name__icontains=word))
    return [
        Hit(row.name, f"on {row.target.name}, {row.target.environment}", reverse("targets:endpoint", args=[row.name]))
        for row in rows[:MOST]
    ]


def _models(actor: Actor, words: list[str]) -> list[Hit]:
    """Models by name; a version too, once a word names it."""
    hits = [
        Hit(model.name, model.description, reverse("registry:model", args=[model.name]))
        for model in models_named(actor, words, MOST)
    ]
    for version in versions_named(actor, words, MOST):
        place = reverse("registry:version", args=[version.model.name, version.reference])
        hits.append(Hit(f"{version.model.name} {version.reference}", version.description, place))
    return hits[:MOST]


def _version_begins(word: str) -> Q:
    """The candidate's version begins with the numbers of ``word``: "1.1" fits 1.1.0 and 1.1.7."""
    parts = word.split(".")
    if len(parts) > 3 or not all(part.isascii() and part.isdigit() and len(part) < 9 for part in parts):
        return Q(pk__in=[])
    names = ("candidate_version__major", "candidate_version__minor", "candidate_version__patch")
    return Q(**{name: int(part) for name, part in zip(names, parts, strict=False)})


def _rollouts(actor: Actor, words: list[str]) -> list[Hit]:
    rows = rollout_list(actor=actor)
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


def _sequences(actor: Actor, words: list[str]) -> list[Hit]:
    """Only where a word asks for them: by version, model, phase, id, or the word itself."""
    if not words:
        return []
    rows = sequence_list(actor)
    for word in words:
        if not "sequences".startswith(word):
            rows = rows.filter(
                _version_begins(word)
                | Q(candidate_version__model__name__icontains=word)
                | Q(phase__icontains=word.replace(" ", "_"))
                | Q(pk__iexact=word)
            )
    return [
        Hit(
            f"{row.candidate_version.model.name} {row.candidate_version.semver} in {len(row.plan['waves'])} waves",
            f"sequence, {word_of(row.phase)}",
            reverse("rollouts:sequence", args=[row.pk]),
        )
        for row in rows[:MOST]
    ]
