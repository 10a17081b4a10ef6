"""Which driver a target has: one table of dotted paths. Only the services of this app call it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Protocol, cast

import orjson
from django.utils.module_loading import import_string

from apps.kernel.errors import InvalidInput
from apps.targets.domain.driver import Driver

DRIVERS: Mapping[str, str] = {
    "local": "apps.targets.drivers.local.connect",
    "fake": "apps.targets.drivers.fake.connect",
    "kubernetes": "apps.targets.drivers.kubernetes.connect",
}


class TargetLike(Protocol):
    kind: Any
    connection: Any


def driver_for(target: TargetLike) -> Driver:
    """The driver of ``target``, kept per process and connection. Raises InvalidInput for a kind without a driver."""
    return driver_of(target.kind, target.connection)


def driver_of(kind: str, connection: Mapping[str, Any]) -> Driver:
    if kind not in DRIVERS:
        raise InvalidInput.at(
            "/kind", "unknown_kind", f"No driver for {kind!r}; there are {', '.join(sorted(DRIVERS))}."
        )
    return _connected(kind, orjson.dumps(connection, option=orjson.OPT_SORT_KEYS))


@lru_cache(maxsize=256)
def _connected(kind: str, connection: bytes) -> Driver:
    return cast(Driver, import_string(DRIVERS[kind])(orjson.loads(connection)))
