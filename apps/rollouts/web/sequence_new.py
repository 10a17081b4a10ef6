"""The page that plans a sequence: which version, which endpoint in which wave, and the dry run of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from apps.accounts.web_access import actor_of_request, declares
from apps.kernel.actor import Actor
from apps.kernel.errors import DomainError, NotFound
from apps.registry.selectors import model_list, version_by
from apps.rollouts.domain.plan import Strategy
from apps.rollouts.domain.strategies import PROFILES, STANDARD, approval_step
from apps.rollouts.domain.waves import OnFailure, WaveAsked
from apps.rollouts.services.checks import Level
from apps.rollouts.services.sequences import PlannedSequence, sequence_plan, sequence_start
from apps.rollouts.web.draft import APPROVALS, NOTE_LENGTH, PROFILE_WORDS
from apps.rollouts.web.fit import unfit_sentence
from apps.targets.selectors import endpoint_list
from apps.targets.services.scope import why_not_at

if TYPE_CHECKING:
    from apps.registry.models import ModelVersion

MOST_WAVES: Final = 5
BAKES: Final = (
    ("0", "begin at once"), ("600", "look for 10 minutes"), ("3600", "look for an hour"), ("86400", "look for a day"),
    ("person", "wait until a person continues"),
)  # fmt: skip
AT_A_TIME: Final = (("", "all of a wave"), ("1", "one"), ("2", "two"), ("5", "five"))
STRATEGIES: Final = (
    (Strategy.CANARY.value, "Canary"), (Strategy.BLUE_GREEN.value, "Blue-green"), (Strategy.RECREATE.value, "Recreate"),
)  # fmt: skip
APPROVE: Final = (("no", "nobody"), ("one", "one person"), ("two", "two people"))
ASKED: Final = (("each", "at each endpoint"), ("once", "once, for the whole sequence"))
DEFAULTS: Final = {
    "bake": "3600", "at_a_time": "", "on_failure": OnFailure.STOP.value, "strategy": Strategy.CANARY.value,
    "profile": STANDARD, "note": "", "pick": "", "approval": "no", "asked": "each",
}  # fmt: skip


@dataclass(slots=True)
class SequenceDraft:
    """What was chosen so far; ``waves``: endpoint name -> number of its wave, from 1."""

    values: dict[str, str]
    waves: dict[str, int]
    faults: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, query: Mapping[str, str]) -> SequenceDraft:
        values = {**DEFAULTS, **{name: query[name].strip() for name in DEFAULTS if name in query}}
        values["note"] = values["note"][:NOTE_LENGTH]
        chosen = {name.removeprefix("wave:"): query[name] for name in query if name.startswith("wave:")}
        waves = {name: int(number) for name, number in chosen.items() if number in _NUMBERS}
        return cls(values, waves)

    @property
    def asked(self) -> list[WaveAsked]:
        """The waves in their order; numbers without an endpoint are passed over."""
        bake = None if self.values["bake"] == "person" else int(self.values["bake"])
        numbers = sorted(set(self.waves.values()))
        return [
            WaveAsked(tuple(sorted(name for name, own in self.waves.items() if own == number)), bake)
            for number in numbers
        ]

    def check_words(self) -> None:
        """Faults of what is chosen from a list."""
        known: dict[str, set[str]] = {
            "bake": {value for value, _ in BAKES},
            "at_a_time": {value for value, _ in AT_A_TIME},
            "on_failure": set(OnFailure),
            "strategy": {value for value, _ in STRATEGIES},
            "profile": set(PROFILES),
            "approval": set(APPROVALS),
            "asked": {value for value, _ in ASKED},
        }
        for name, words in known.items():
            if self.values[name] not in words:
                self.faults.append(f"{self.values[name]!r} is no {name.replace('_', ' ')}; choose from the list.")
                self.values[name] = DEFAULTS[name]


_NUMBERS: Final = frozenset(str(number) for number in range(1, MOST_WAVES + 1))


@declares({"GET": "rollout.plan", "POST": "rollout.start"})
def new(request: HttpRequest) -> HttpResponse:
    """GET shows the form, and with ``check`` the dry run (422 when something is missing). POST starts."""
    is_post = request.method == "POST"
    query = request.POST if is_post else request.GET
    draft, actor = SequenceDraft.read(query.dict()), actor_of_request(request)
    draft.check_words()
    version = _version(actor, draft)
    planned = _plan(actor, draft, version) if is_post or "check" in query else None
    status = 422 if draft.faults else 200
    if is_post and planned is not None and not draft.faults:
        try:
            row = sequence_start(
                actor=actor,
                planned=planned,
                expected_plan_hash=query.get("plan_hash", ""),
                note=draft.values["note"],
            )
        except DomainError as error:
            draft.faults.append(f"Not started. {error.detail}")
            status = 409
        else:
            return redirect("rollouts:sequence", row.pk)
    context = {
        "draft": draft.values,
        "faults": draft.faults,
        "version": version,
        "versions": _versions(actor),
        "rows": _rows(actor, draft, version),
        "planned": _shown(planned),
        "numbers": range(1, MOST_WAVES + 1),
        "bakes": BAKES,
        "at_a_time": AT_A_TIME,
        "strategies": STRATEGIES,
        "approvals": APPROVE,
        "askings": ASKED,
        "profiles": PROFILE_WORDS.items(),
        "kept": [(name, value) for name, value in query.items() if name == "pick" or name in DEFAULTS],
        "chosen": [(f"wave:{name}", number) for name, number in draft.waves.items()],
    }
    return render(request, "rollouts/waves/new.html", context, status=status)


def _version(actor: Actor, draft: SequenceDraft) -> ModelVersion | None:
    model, _, reference = draft.values["pick"].rpartition("@")
    if not model:
        return None
    try:
        return version_by(model, reference, actor=actor)
    except NotFound as error:
        draft.faults.append(error.detail)
        return None


def _plan(actor: Actor, draft: SequenceDraft, version: ModelVersion | None) -> PlannedSequence | None:
    if version is None:
        draft.faults.append("Choose the version that is to be rolled out.")
        return None
    if not draft.waves:
        draft.faults.append("Choose a wave for at least one endpoint.")
    if draft.faults:
        return None
    at_a_time, quorum = draft.values["at_a_time"], APPROVALS[draft.values["approval"]]
    try:
        return sequence_plan(
            actor=actor,
            version_id=version.pk,
            waves=draft.asked,
            strategy=draft.values["strategy"],
            profile=draft.values["profile"],
            approval=approval_step(quorum) if quorum else None,
            on_failure=draft.values["on_failure"],
            max_concurrent=int(at_a_time) if at_a_time else None,
            approve_once=bool(quorum) and draft.values["asked"] == "once",
        )
    except DomainError as error:
        draft.faults.append(error.detail)
        return None


def _versions(actor: Actor) -> list[tuple[str, str]]:
    """(value, words) of every ready version, newest first within its model."""
    return [
        (f"{model.name}@{version.semver}", f"{model.name} {version.semver}")
        for model in model_list(actor=actor)
        for version in sorted(model.versions.all(), key=lambda one: one.number, reverse=True)
        if version.status == "ready" and version.deleted_at is None
    ]


def _rows(actor: Actor, draft: SequenceDraft, version: ModelVersion | None) -> list[dict[str, Any]]:
    """The endpoints that serve the version's model, each with why it cannot be chosen."""
    if version is None:
        return []
    rows = []
    for endpoint in endpoint_list(actor).filter(model_id=version.model_id):
        is_there = endpoint.stable_version_id == version.pk
        why_not = f"serves {version.semver} already" if is_there else unfit_sentence(version, endpoint)
        rows.append(
            {
                "endpoint": endpoint,
                "wave": draft.waves.get(endpoint.name, 0),
                "why_not": why_not or why_not_at(actor, "rollout.plan", endpoint),
            }
        )
    return rows


def _shown(planned: PlannedSequence | None) -> dict[str, Any] | None:
    """The dry run as the panel shows it: what blocks first, then what warns."""
    if planned is None:
        return None
    checks = [check for one in planned.members for check in one.checks]
    order = (Level.BLOCK, Level.WARN)
    return {
        "hash": planned.plan_hash,
        "is_startable": planned.is_startable,
        "waves": [
            {
                "number": index + 1,
                "members": [one.planned for one in planned.members if one.wave == index],
                "bake_seconds": wave.bake_seconds,
                "is_last": index == len(planned.plan.waves) - 1,
            }
            for index, wave in enumerate(planned.plan.waves)
        ],
        "checks": [check for level in order for check in checks if check.level is level],
        "passed": sum(check.level is Level.PASS for check in checks),
    }
