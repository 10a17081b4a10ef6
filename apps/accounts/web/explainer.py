"""What may X do? One answer with every rule on the way, or everything at a glance."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from apps.accounts.domain.doors import SIGNED_IN
from apps.accounts.domain.roles import ALL_ACTIONS, Environment, who_can
from apps.accounts.domain.words import ACTION_GROUPS, ACTION_WORDS
from apps.accounts.models import Team, User
from apps.accounts.selectors import team_list
from apps.accounts.services.access import scope_q
from apps.accounts.services.explaining import access_explain, access_table, principal_find
from apps.accounts.services.seen import accounts_visible
from apps.accounts.web_access import actor_of_request, declares
from apps.kernel.actor import ANY
from apps.kernel.errors import DomainError, NotFound

ASKED = ("who", "action", "team", "where")


@declares(SIGNED_IN)
def explainer(request: HttpRequest) -> HttpResponse:
    """Without an action, a table of all of them; with one, the answer, its rules, and what would turn it around."""
    actor, asked = actor_of_request(request), {name: request.GET.get(name, "") for name in ASKED}
    visible = list(accounts_visible(actor).order_by("username"))
    teams = list(team_list().filter(scope_q(actor, "member.read", team="pk")))
    context: dict[str, Any] = {
        "accounts": visible,
        "groups": ACTION_GROUPS,
        "teams": teams,
        "environments": [item.value for item in Environment],
        "asked": asked,
    }
    try:
        context |= _answer(request, asked, visible, teams)
    except DomainError as error:
        context["fault"] = error.detail
    return render(request, "accounts/explain.html", context, status=404 if "fault" in context else 200)


def _answer(request: HttpRequest, asked: dict[str, str], visible: list[User], teams: list[Team]) -> dict[str, Any]:
    me = request.user
    if not isinstance(me, User):
        raise TypeError("an anonymous request got past the door")
    principal = principal_find(asked["who"] or me.get_username(), {*visible, me})
    team_id = _team_id(asked["team"], teams)
    found: dict[str, Any] = {"principal": principal, "is_me": principal.account.pk == me.pk}
    if not asked["action"]:
        return {**found, "table": _table(principal, team_id)}
    answer = access_explain(principal, asked["action"], team_id, asked["where"] or None)
    slugs = {item.pk: item.slug for item in teams}
    return {
        **found,
        "is_allowed": answer.is_allowed,
        "rules": [(rule.is_met, _named(rule.sentence, slugs)) for rule in answer.rules],
        "flip": [_named(change.sentence, slugs) for change in answer.flip],
        "roles": who_can(asked["action"]),
        "action_words": ACTION_WORDS.get(asked["action"], asked["action"]),
    }


def _table(principal: Any, team_id: str | None) -> list[dict[str, Any]]:
    allowed = access_table(principal, sorted(ALL_ACTIONS), team_id)
    return [
        {
            "name": name,
            "rows": [
                {"action": action, "words": words, "cells": [(place, allowed[action, place]) for place in Environment]}
                for action, words in group.items()
            ],
        }
        for name, group in ACTION_GROUPS
    ]


def _team_id(slug: str, teams: list[Team]) -> str | None:
    """None is some team, "*" every one. Raises NotFound."""
    if slug in {"", ANY}:
        return slug or None
    found = next((item.pk for item in teams if item.slug == slug), None)
    if found is None:
        raise NotFound("team_unknown", f"There is no team {slug[:40]}, or you may not see it.")
    return found


def _named(sentence: str, slugs: dict[str, str]) -> str:
    """The rules name teams by id; people know them by name."""
    for team_id, slug in slugs.items():
        sentence = sentence.replace(team_id, slug)
    return sentence
