from __future__ import annotations

from enum import StrEnum

import pytest

from apps.kernel.errors import ErrorKind, InvalidInput
from apps.kernel.transitions import IllegalTransition, Transitions


class Door(StrEnum):
    OPEN = "open"
    SHUT = "shut"
    LOCKED = "locked"
    WALLED = "walled"


TABLE = Transitions({(Door.OPEN, "shut"): Door.SHUT, (Door.SHUT, "open"): Door.OPEN, (Door.SHUT, "lock"): Door.LOCKED})


def test_an_action_leads_where_the_table_says() -> None:
    assert TABLE.next(Door.SHUT, "lock") is Door.LOCKED


def test_an_illegal_action_is_a_conflict_that_names_what_is_possible() -> None:
    with pytest.raises(IllegalTransition) as refused:
        TABLE.next(Door.SHUT, "shut")
    assert refused.value.kind is ErrorKind.CONFLICT
    assert "possible now: lock, open" in refused.value.detail
    with pytest.raises(IllegalTransition, match="nothing"):
        TABLE.next(Door.LOCKED, "open")


def test_reachable_follows_every_action() -> None:
    assert TABLE.reachable(Door.OPEN) == {Door.OPEN, Door.SHUT, Door.LOCKED}
    assert TABLE.reachable(Door.WALLED) == {Door.WALLED}


def test_an_invalid_field_is_named() -> None:
    error = InvalidInput.at("/steps/2/weight", "falls", "Step 3 falls.")
    assert [(field.pointer, field.code) for field in error.fields] == [("/steps/2/weight", "falls")]
    assert str(error) == error.detail == "Step 3 falls."
