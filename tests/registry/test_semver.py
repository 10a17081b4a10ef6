from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.kernel.errors import InvalidInput
from apps.registry.domain.semver import Bump, Semver, looks_like_version

semvers = st.builds(Semver, *[st.integers(0, 999_999_999)] * 3)


@given(semvers)
def test_what_is_written_reads_back(version: Semver) -> None:
    assert Semver.parse(str(version)) == version


@given(semvers.filter(lambda v: max(v.major, v.minor, v.patch) < 999_999_999), st.sampled_from(Bump))
def test_every_bump_is_higher_and_every_bigger_bump_higher_still(version: Semver, bump: Bump) -> None:
    assert version < version.next(bump)
    assert version.next(Bump.PATCH) <= version.next(Bump.MINOR) <= version.next(Bump.MAJOR)


def test_numbers_are_compared_as_numbers() -> None:
    assert Semver.parse("1.10.0") > Semver.parse("1.9.9")
    assert str(Semver.parse("1.4.7").next(Bump.MINOR)) == "1.5.0"
    assert str(Semver.parse("1.4.7").next(Bump.MAJOR)) == "2.0.0"
    assert str(Semver.parse("1.4.7").next(Bump.PATCH)) == "1.4.8"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1.2",
        "1.2.3.4",
        "v1.2.3",
        "01.2.3",
        "1.2.3-rc1",
        "1.2.-3",
        " 1.2.3",
        "1.2.3\n",
        "١.٢.٣",
        "1.2.9999999999",
    ],
)
def test_anything_else_is_refused_and_the_field_named(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        Semver.parse(text)
    assert refused.value.code == "bad_semver"
    assert [field.pointer for field in refused.value.fields] == ["/semver"]


def test_an_alias_can_be_told_from_a_version() -> None:
    assert all(looks_like_version(text) for text in ("3", "v3", "1.2.3", "v1.2"))
    assert not any(looks_like_version(text) for text in ("champion", "v", "beta-2", "1st"))
