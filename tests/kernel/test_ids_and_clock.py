from __future__ import annotations

import time
from datetime import UTC, datetime

from apps.kernel.clock import now, set_clock
from apps.kernel.ids import new_id


def test_ids_name_their_kind_and_differ() -> None:
    made = {new_id("ro") for _ in range(2000)}
    assert len(made) == 2000
    assert all(one.startswith("ro_") and len(one) == 3 + 26 for one in made)


def test_ids_sort_by_the_millisecond_they_were_made() -> None:
    first = new_id("ro")
    time.sleep(0.003)
    assert first < new_id("ro")


def test_the_clock_knows_its_zone_and_can_be_replaced_for_a_block() -> None:
    fixed = datetime(2013, 1, 1, tzinfo=UTC)
    with set_clock(lambda: fixed):
        assert now() == fixed
    assert now().tzinfo is UTC
    assert now() > fixed
