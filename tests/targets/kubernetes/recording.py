"""What a real API server was seen to do, kept as files, so that the one made of memory cannot drift away from it.

``recordings/scenarios.json``: which scenarios have passed on a real server, and every kind of refusal met there.
``recordings/exchanges.json``: what it answered to a list of single requests (``exchanges.py``). Both carry the server's
version. They are written by the suite itself on a real server::

    PILOTHOUSE_RECORD_KUBERNETES=1 KUBEBUILDER_ASSETS=… python -m pytest tests/targets/kubernetes -m real

A scenario that has never passed there fails on the cluster made of memory: it is not done.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from apps.targets.drivers.kubernetes.api import Api
from apps.targets.drivers.kubernetes.faults import Answer

FOLDER = Path(__file__).with_name("recordings")
SCENARIOS, EXCHANGES = FOLDER / "scenarios.json", FOLDER / "exchanges.json"
IS_RECORDING = bool(os.environ.get("PILOTHOUSE_RECORD_KUBERNETES"))
PASSED = pytest.StashKey[bool]()
JSON = dict[str, Any]


def loaded(path: Path) -> JSON:
    found: JSON = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def stored(path: Path, **news: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({**loaded(path), **news}, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def key_of(node: pytest.Item) -> str:
    """A scenario's name without where it ran.

    >>> re.sub(r"[[](?:fake|real)(?:-(.*))?[]]$", r"[\\1]", "test_x[real-before]")
    'test_x[before]'
    """
    name = re.sub(r"\[(?:fake|real)(?:-(.*))?\]$", r"[\1]", node.name).removesuffix("[]")
    owner = getattr(node, "cls", None)
    return f"{owner.__name__}::{name}" if owner else name


def held_against_recording(request: pytest.FixtureRequest, *, is_real: bool, version: str) -> Iterator[None]:
    """Around one scenario. On a real server it is recorded, when that is wanted and it has passed. On the one made of
    memory it must have been, and no refusal may come that a real one was never seen to give."""
    key, met = key_of(request.node), set[str]()
    known = loaded(SCENARIOS)
    if not is_real and not IS_RECORDING:
        assert key in known.get("scenarios", []), f"{key} has never passed on a real API server ({__name__})"
    original = Api._once

    def once(self: Api, doing: str, method: str, *args: Any, **params: Any) -> Any:
        found = original(self, doing, method, *args, **params)
        if isinstance(found, Answer):
            # who one is, may do and how often is decided before it is looked at what one does
            verb = "any" if found.status in {401, 403, 429} else method
            met.add(f"{verb} {found.status} {found.body.get('reason', '')}".strip())
        return found

    with patch.object(Api, "_once", once):
        yield
    if is_real and IS_RECORDING and request.node.stash.get(PASSED, False):
        known = loaded(SCENARIOS)
        stored(
            SCENARIOS,
            server=version,
            scenarios=sorted({*known.get("scenarios", ()), key}),
            refusals=sorted({*known.get("refusals", ()), *met}),
        )
    if not is_real and not IS_RECORDING:
        assert met <= set(known["refusals"]), "a real API server was never seen to refuse like that"
