"""The rule of the version number: whoever shares a major version can stand in for each other, upwards."""

from __future__ import annotations

from collections.abc import Mapping

from apps.kernel.errors import FieldError, PolicyRefused
from apps.registry.domain.semver import Bump, Semver
from apps.registry.domain.signature import Difference, Signature, breaking_differences


def check_semver(previous: Mapping[Semver, Signature], new: Semver, signature: Signature) -> None:
    """Raises PolicyRefused ``major_bump_required`` with the differing fields named.

    Within one major version the new one must be a drop-in for the highest lower version, and the lowest higher version
    for it (a patch to an older line is possible, a trap for callers is not).
    """
    line = [version for version in previous if version.major == new.major]
    below = max((version for version in line if version < new), default=None)
    above = min((version for version in line if version > new), default=None)
    if below is not None:
        _refuse(breaking_differences(previous[below], signature), new, f"callers of {below}", _next_major(previous))
    if above is not None:
        _refuse(breaking_differences(signature, previous[above]), new, f"its callers at {above}", _next_major(previous))


def _next_major(previous: Mapping[Semver, Signature]) -> Semver:
    return max(previous).next(Bump.MAJOR)


def _refuse(differences: list[Difference], new: Semver, whom: str, instead: Semver) -> None:
    if not differences:
        return
    named = " ".join(str(difference) for difference in differences)
    raise PolicyRefused(
        "major_bump_required",
        f"{new} would break {whom}: {named} A change of the schema needs a new major version, for example {instead}.",
        fields=tuple(
            FieldError(f"/signature/{_pointer(difference)}", difference.what.value, str(difference))
            for difference in differences
        ),
        extra={"differences": [difference.as_dict() for difference in differences], "suggested": str(instead)},
    )


def _pointer(difference: Difference) -> str:
    side = "outputs" if difference.what.value.startswith("output") else "inputs"
    return f"{side}/{difference.column.replace('~', '~0').replace('/', '~1')}"


def proposed_semver(previous: Mapping[Semver, Signature], signature: Signature) -> Semver:
    """The lowest number above the highest version that says what changed for callers; 1.0.0 for the first one.

    They would break: the next major. They could send or read more (an optional input, a wider type or range): the next
    minor. The signature is the same: the next patch. An author who knows more may ask for a higher one, never a lower.
    """
    if not previous:
        return Semver(1, 0, 0)
    highest = max(previous)
    if breaking_differences(previous[highest], signature):
        return highest.next(Bump.MAJOR)
    return highest.next(Bump.PATCH if previous[highest] == signature else Bump.MINOR)
