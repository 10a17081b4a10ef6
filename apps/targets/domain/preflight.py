"""What a target says about a plan before anything is started: would it take it, and what would change there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from apps.kernel.verdicts import Verdict


class Weight(StrEnum):
    """What a check means for a start: nothing, a word of caution, or a refusal."""

    PASS = "pass"  # noqa: S105
    WARN = "warn"
    BLOCK = "block"


@dataclass(frozen=True, slots=True)
class Check:
    """One question. NO_DATA: it could not be asked, and the answer may be either; that warns and blocks nothing.

    ``detail`` is the sentence, ``way_out`` what to do, ``numbers`` what the sentence counts (``{"wanted": 2}``).
    """

    name: str
    verdict: Verdict
    detail: str
    way_out: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)

    @property
    def weight(self) -> Weight:
        if self.verdict is Verdict.PASS:
            return Weight.PASS
        return Weight.BLOCK if self.verdict in {Verdict.FAIL, Verdict.ERROR} else Weight.WARN

    @property
    def sentence(self) -> str:
        return f"{self.detail} {self.way_out}".strip()


@dataclass(frozen=True, slots=True)
class Change:
    """What applying would do to one object: ``create``, ``change`` (``fields`` in words), ``delete``.

    ``lines`` is the same as a diff: each begins with ``+``, ``-`` or a space.
    """

    kind: str
    name: str
    what: str
    fields: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PreflightReport:
    """``role``: the rights that the target has to grant, as text to apply there; empty where there is no such thing.
    ``is_supported`` false: targets of this kind have nothing to check beforehand, which is no promise that all is well.
    """

    checks: tuple[Check, ...]
    changes: tuple[Change, ...] = ()
    role: str = ""
    is_supported: bool = True

    @property
    def blocks(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.weight is Weight.BLOCK)

    @property
    def lacks_rights(self) -> bool:
        """Something is refused or stays unknown that ``role`` would allow."""
        return bool(self.role) and any(
            check.verdict is Verdict.NO_DATA or (check.name == "rights" and check.weight is not Weight.PASS)
            for check in self.checks
        )

    @property
    def is_passed(self) -> bool:
        return not self.blocks


def report_to_json(report: PreflightReport) -> dict[str, Any]:
    """The form that every door answers."""
    return {
        "is_supported": report.is_supported,
        "is_passed": report.is_passed,
        "checks": [
            {
                "name": check.name,
                "level": check.weight.value,
                "detail": check.detail,
                "way_out": check.way_out,
                "numbers": dict(check.numbers),
            }
            for check in report.checks
        ],
        "changes": [
            {
                "kind": change.kind,
                "name": change.name,
                "what": change.what,
                "fields_changed": list(change.fields),
                "diff": "\n".join(change.lines),
            }
            for change in report.changes
        ],
        "role": report.role,
    }
