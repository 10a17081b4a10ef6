"""The form of a key and the rows of a list of keys: the same for one's own and for a service account's."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.http import QueryDict

from apps.accounts.domain.roles import ACTIONS, Environment, Role
from apps.accounts.domain.words import ROLE_WORDS
from apps.accounts.models import ApiToken, Team, User
from apps.accounts.services.tokens import token_make
from apps.kernel.actor import Actor
from apps.kernel.clock import now
from apps.kernel.errors import DomainError, InvalidInput

LIFETIMES: Final = {"1": "a day", "7": "a week", "30": "30 days", "90": "90 days", "365": "a year"}


def key_make_from(post: QueryDict, *, actor: Actor, user: User) -> str:
    """The text of a new key, as the form asked for it. Raises what ``token_make`` raises, and InvalidInput (days)."""
    days = post.get("days", "")
    if days not in lifetimes():
        raise InvalidInput.at("/days", "unknown", f"Choose {', '.join(lifetimes().values())}.")
    _, text = token_make(
        actor=actor,
        user=user,
        label=post.get("label", ""),
        roles=frozenset(Role(name) for name in post.getlist("roles") if name in set(Role)),
        expires_at=now() + timedelta(days=int(days)),
        environments=[place for place in post.getlist("environments") if place in set(Environment)],
        networks=[line for line in post.get("networks", "").replace(",", "\n").split("\n") if line.strip()],
    )
    return text


def form_of(roles: Iterable[Role], post: QueryDict | None, faults: dict[str, str]) -> dict[str, Any]:
    """What the form shows: what was typed when it was refused, else the defaults."""
    typed = post if faults else None
    held = sorted(roles)
    default = Role.ENGINEER.value if Role.ENGINEER in held else ""
    return {
        "roles": [(role.value, ROLE_WORDS[role], sorted(ACTIONS[role])) for role in held],
        "chosen": typed.getlist("roles") if typed else [default],
        "days": typed.get("days", "") if typed else "30",
        "lifetimes": lifetimes().items(),
        "label": typed.get("label", "") if typed else "",
        "environments": [place.value for place in Environment],
        "chosen_environments": typed.getlist("environments") if typed else [],
        "networks": typed.get("networks", "") if typed else "",
        "faults": faults,
        "has_limits": bool(typed and (typed.getlist("environments") or typed.get("networks"))),
    }


def faults_of(error: DomainError) -> dict[str, str]:
    """By field; what belongs to none stands at the roles."""
    return {item.pointer.strip("/"): item.detail for item in error.fields} or {"roles": error.detail}


def key_rows(tokens: Iterable[ApiToken]) -> list[dict[str, Any]]:
    """Each key with shape and word of its state, and its limits in words."""
    moment, names = now(), dict(Team.objects.values_list("pk", "slug"))
    return [
        {
            "token": token,
            "limits": [
                *(f"team {names.get(team, team)}" for team in token.teams), *token.environments,
                *(f"from {network}" for network in token.networks),
            ],
            **_state(token, moment),
        }
        for token in tokens
    ]  # fmt: skip


def lifetimes() -> dict[str, str]:
    """How long a key may work, as far as settings allow."""
    return {days: word for days, word in LIFETIMES.items() if int(days) <= settings.PILOTHOUSE_KEY_MAX_DAYS}


def _state(token: ApiToken, moment: datetime) -> dict[str, str]:
    if token.revoked_at is not None:
        return {"level": "unknown", "word": "revoked"}
    if token.expires_at and token.expires_at <= moment:
        return {"level": "attention", "word": "replaced" if token.replaced_by_id else "expired"}
    return {"level": "ok", "word": "replaced, works on for a day" if token.replaced_by_id else "works"}
