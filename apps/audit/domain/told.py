"""What an entry says happened: one sentence and the fields that changed, from its verb and detail. Pure.

The sentence begins with a verb in the past tense and stands behind the name of whoever acted. An entry says what it
says for ever, so everything is read with a way out: a detail without the expected keys gives the verb's own words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from apps.audit.domain.diff import Row, rows_of
from apps.audit.domain.verbs import VERBS

_BACK: Final = {
    "rolled_back": "rolled {endpoint} back to {stable}",
    "aborted": "aborted the rollout of {candidate} on {endpoint}, which is back at {stable}",
    "superseded": "took {candidate} off {endpoint} to make way for another rollout",
    "failed": "gave up {candidate} on {endpoint}, which stays at {stable}",
}
_ACTS: Final = {
    "Prepare": "began to bring up {candidate} on {endpoint}, without traffic",
    "Shift": "moved {candidate} on {endpoint} to {weight}",
    "Bake": "let {candidate} bake at {weight} on {endpoint}",
    "Wait": "held {candidate} on {endpoint} at {weight} until a person resumes",
    "Gate": "began to judge {candidate} on {endpoint} at {weight}",
    "AskForReview": "asked for an approval of {candidate} on {endpoint} at {weight}",
    "Promote": "began to promote {candidate} on {endpoint}; {stable} drains",
    "Finish": "promoted {candidate} on {endpoint}",
    "Conclude": "completed the shadow run of {candidate} on {endpoint}",
    "RollBack": "began to roll {endpoint} back to {stable}",
    "Supersede": "began to take {candidate} off {endpoint} to make way for another rollout",
    "Fail": _BACK["failed"],
    "Pause": "paused {candidate} on {endpoint} at {weight}",
    "Resume": "resumed {candidate} on {endpoint} at {weight}",
}
_KEY: Final = re.compile(r"v(\d+)-(\d+)-(\d+)")
_WITH_CAUSE: Final = frozenset({"RollBack", "Supersede", "Settle", "Fail", "Pause", "Resume"})
_BY_HAND: Final = ("paused", "resumed", "aborted", "rolled back", "replaced", "promoted")
_FIELDS: Final = {
    "alias.moved": "version", "alias.removed": "version", "model.described": "description", "model.renamed": "name",
    "model.protected": "protected aliases", "promotion.requested": "version", "team.renamed": "name",
    "version.card_written": "model card", "version.described": "description", "version.staged": "stage",
}  # fmt: skip
"""What the bare ``before`` and ``after`` of these verbs are the values of."""


@dataclass(frozen=True, slots=True)
class Story:
    """What earlier entries say of a rollout: its versions, and the candidate's weight before this entry (basis points;
    None when no entry tells)."""

    stable: str = ""
    candidate: str = ""
    weight_bp: int | None = None


def sentence_of(verb: str, label: str, detail: Any, *, actor: str = "", story: Story | None = None) -> str:
    """What happened, from its verb on: "moved 1.1.0 on late-arrival to 25 %"."""
    plain = VERBS.get(verb, verb).format(subject=label)
    if not isinstance(detail, Mapping):
        return plain
    if verb == "rollout.transitioned":
        return _transition(label, detail, actor, story or Story()) or plain
    if verb == "rollout.created":
        return _start(label, detail) or plain
    if verb == "endpoint.desired":
        return _desired(label, detail) or plain
    if verb in {"endpoint.diverged", "endpoint.healed"} and detail.get("reason"):
        return f"{plain}: {detail['reason']}"
    if verb.startswith("version.") and label.endswith(f" {detail.get('number')}"):
        name = label.removesuffix(f" {detail['number']}")  # without a semver: written as everywhere else
        return VERBS.get(verb, verb).format(subject=f"{name} v{detail['number']}")
    if verb in {"user.role_given", "user.role_taken"}:
        role = detail.get("role")
        word, side = ("gave", "to") if verb == "user.role_given" else ("took", "from")
        return f"{word} the role {role} {side} {label}" if role else plain
    return plain


def changes_of(verb: str, detail: Any, *, story: Story | None = None) -> list[Row]:
    """Before and after, field by field; None where something was or is not there."""
    if not isinstance(detail, Mapping):
        return []
    if verb == "rollout.transitioned":
        return _moved(detail, story or Story())
    if verb == "rollout.created":
        return [Row("plan", None, detail.get("strategy"))] if detail.get("strategy") else []
    if verb == "endpoint.desired":
        return _redesired(detail)
    if verb in {"user.role_given", "user.role_taken"}:
        where = [str(detail[key]) for key in ("team", "environment") if detail.get(key)]
        role = f"{detail.get('role', '')}{' in ' + ', '.join(where) if where else ''}"
        return [Row("role", None, role) if verb == "user.role_given" else Row("role", role, None)]
    if verb in {"model.tagged", "version.tagged"}:
        return [Row(str(detail.get("key", "")), None, detail.get("value"))]
    if verb in {"model.untagged", "version.untagged"}:
        return [Row("tag", detail.get("key"), None)]
    return [_tidy(_FIELDS.get(verb, row.field) if row.field == "value" else row.field, row) for row in rows_of(detail)]


def _tidy(field: str, row: Row) -> Row:
    return Row(field, *(None if side in ("", [], {}) else side for side in (row.before, row.after)))


def _transition(label: str, detail: Mapping[str, Any], actor: str, story: Story) -> str:
    endpoint, _, named = label.rpartition(" to ")
    action, end = str(detail.get("action", "")), str(detail.get("to", ""))
    words = _BACK.get(end, "") if action == "Settle" else _ACTS.get(action, "")
    if not words or not endpoint:
        return ""
    weight_bp = detail.get("weight_bp") or 0
    if action == "Shift" and story.weight_bp == weight_bp:
        words = "moved {candidate} on {endpoint} on to the next step, at {weight}"
    said = words.format(
        endpoint=endpoint,
        candidate=story.candidate or named,
        stable=story.stable or "the version before",
        weight=_percent(weight_bp),
    )
    cause = _cause(str(detail.get("reason", "")), actor) if action in _WITH_CAUSE else ""
    return f"{said} because {cause}" if cause else said


def _cause(reason: str, actor: str) -> str:
    """The reason without what the entry says anyway: "paused by ana: too slow" is "too slow" when ana paused."""
    for word in _BY_HAND:
        if reason.startswith(f"{word} by {actor}"):
            rest = reason.removeprefix(f"{word} by {actor}")
            return rest.removeprefix(": ") if not rest or rest.startswith(": ") else reason
    return reason


def _start(label: str, detail: Mapping[str, Any]) -> str:
    endpoint = label.rpartition(" to ")[0]
    stable, candidate = detail.get("from"), detail.get("to")
    if not (endpoint and stable and candidate):
        return ""
    strategy = str(detail.get("strategy", "")).replace("_", "-")
    return f"started the rollout of {candidate} over {stable} on {endpoint}{f', {strategy}' if strategy else ''}"


def _desired(label: str, detail: Mapping[str, Any]) -> str:
    follows = detail.get("follows")
    if isinstance(follows, Mapping):
        alias = follows.get("after")
        return f"let {label} follow the alias {alias}" if alias else f"let {label} follow no alias any more"
    reason = str(detail.get("reason", ""))
    return f"changed what {label} should run: {reason}" if reason else ""


def _moved(detail: Mapping[str, Any], story: Story) -> list[Row]:
    rows, weight_bp = [], detail.get("weight_bp")
    if isinstance(weight_bp, int) and story.weight_bp is not None and story.weight_bp != weight_bp:
        rows.append(Row("weight", _percent(story.weight_bp), _percent(weight_bp)))
    before, after = detail.get("from"), detail.get("to")
    if before and before != after:
        rows.append(Row("state", str(before).replace("_", " "), str(after).replace("_", " ")))
    return rows


def _redesired(detail: Mapping[str, Any]) -> list[Row]:
    follows, weights = detail.get("follows"), detail.get("weights_bp")
    if isinstance(follows, Mapping):
        return [_tidy("follows", Row("follows", follows.get("before"), follows.get("after")))]
    if not isinstance(weights, Mapping):
        return [_tidy(row.field, row) for row in rows_of(detail)]
    before, after = (side if isinstance(side, Mapping) else {} for side in (weights.get("from"), weights.get("to")))
    return [
        Row(f"weight of {_version(key)}", _share(before.get(key)), _share(after.get(key)))
        for key in {**before, **after}
        if before.get(key) != after.get(key)
    ]


def _version(key: str) -> str:
    """The version behind a variant's key: "v1-0-0" is 1.0.0."""
    found = _KEY.fullmatch(key)
    return ".".join(found.groups()) if found else key


def _share(weight_bp: Any) -> str | None:
    return _percent(weight_bp) if isinstance(weight_bp, int) else None


def _percent(weight_bp: int) -> str:
    return f"{weight_bp / 100:g} %"
