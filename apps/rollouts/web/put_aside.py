"""What was typed for one strategy while another is looked at: put aside in the session, back when it is chosen again.

An address of the wizard carries what its strategy uses and no more, so it can be shared as it is. Without this, a look
at canary and back would cost everything that was typed into an A/B rollout's fields. Put aside is only what belongs to
the same version and endpoint; it comes back once, and only to the step that shows its fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django.http import HttpRequest

from apps.rollouts.web.draft import Draft
from apps.rollouts.web.trial_draft import TRIAL_FIELDS

KEY: Final = "rollout_put_aside"
GROUPS: Final = (TRIAL_FIELDS, ("keep_warm",), ("approval",))
"""Fields that a strategy uses together or not at all."""
LENGTH: Final = 4000


def put_aside(request: HttpRequest, draft: Draft) -> None:
    """Keep what was sent and is of no use to the chosen strategy."""
    given = {
        name: draft[name][:LENGTH]
        for group in GROUPS
        if not draft.uses(group[0])
        for name in group
        if name in request.GET
    }
    if given:
        request.session[KEY] = {"of": _of(draft), "typed": {**_typed(request, draft), **given}}


def take_back(request: HttpRequest, draft: Draft) -> dict[str, str]:
    """What the chosen strategy uses, was put aside, and was not sent; empty for nothing."""
    kept = _typed(request, draft)
    found = {
        name: kept[name]
        for group in GROUPS
        if draft.uses(group[0]) and request.GET.keys().isdisjoint(group)
        for name in group
        if name in kept
    }
    if found:
        rest = {name: value for name, value in kept.items() if name not in found}
        request.session[KEY] = {"of": _of(draft), "typed": rest}
    return found


def forget(request: HttpRequest) -> None:
    """The rollout has begun: the next one is typed anew."""
    request.session.pop(KEY, None)


def _typed(request: HttpRequest, draft: Draft) -> Mapping[str, str]:
    kept: dict[str, Any] = request.session.get(KEY, {})
    return kept["typed"] if kept.get("of") == _of(draft) else {}


def _of(draft: Draft) -> list[str]:
    return [draft[name] for name in ("model", "version", "endpoint")]
