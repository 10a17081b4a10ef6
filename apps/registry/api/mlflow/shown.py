"""Models as JSON, remembered per process: a page of a hundred is asked for again and again and seldom changes.

What is remembered is bound to the model row's ``xmin``, which every change of what is shown moves (migration 0008), and
is read with the row in one statement. Only committed rows are remembered: inside a transaction several states of a row
have one ``xmin``.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson
from django.db import connection

from apps.registry.api.mlflow.shapes import model_shape
from apps.registry.selectors import rows

MOST = 10_000
_shown: dict[str, tuple[str, orjson.Fragment]] = {}


def models_shown(marks: Sequence[rows.Mark]) -> list[orjson.Fragment]:
    """Their JSON in this order; one that was deleted a moment ago is left out."""
    if connection.in_atomic_block:
        return list(_read([one.id for one in marks]).values())
    known = {one.id: found[1] for one in marks if (found := _shown.get(one.id)) is not None and found[0] == one.mark}
    missing = [one.id for one in marks if one.id not in known]
    read = _read(missing) if missing else {}
    return [json for one in marks if (json := known.get(one.id) or read.get(one.id)) is not None]


def forget_shown() -> None:
    """Read every model anew."""
    _shown.clear()


def _read(ids: Sequence[str]) -> dict[str, orjson.Fragment]:
    found = {row["id"]: (row["mark"], orjson.Fragment(orjson.dumps(model_shape(row)))) for row in rows.model_rows(ids)}
    if not connection.in_atomic_block:
        if len(_shown) + len(found) > MOST:
            _shown.clear()
        _shown.update(found)
    return {one: json for one, (_, json) in found.items()}
