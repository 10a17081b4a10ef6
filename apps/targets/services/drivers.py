"""Which driver a target has: one table of dotted paths. Only the services of this app call it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Protocol, cast

import orjson
from django.utils.module_loading import import_string

from apps.kernel.errors import DriverError, InvalidInput
from apps.kernel.vault import VaultFault
from apps.targets.domain.driver import Driver
from apps.targets.domain.extras import ConnectionChecked
from apps.targets.services.credentials import credentials_opened

DRIVERS: Mapping[str, str] = {
    "local": "apps.targets.drivers.local.connect",
    "fake": "apps.targets.drivers.fake.connect",
    "kubernetes": "apps.targets.drivers.kubernetes.connect",
}


class TargetLike(Protocol):
    pk: Any
    kind: Any
    connection: Any
    credentials: Any


def driver_for(target: TargetLike) -> Driver:
    """The driver of ``target``, kept per process, connection and credentials: replaced ones are another driver.

    Raises InvalidInput for a kind without a driver, DriverError for credentials that do not open here.
    """
    if not target.credentials:
        return driver_of(target.kind, target.connection)
    _refuse_unknown(target.kind)
    return _opened(target.kind, _bytes(target.connection), str(target.pk), target.credentials)


def driver_of(kind: str, connection: Mapping[str, Any]) -> Driver:
    """A driver without credentials of its own. Raises InvalidInput."""
    _refuse_unknown(kind)
    return _connected(kind, _bytes(connection))


def driver_checked(kind: str, connection: Mapping[str, Any], credentials: Mapping[str, Any]) -> None:
    """That a driver can be made of them and finds what they name; it is not kept. Raises InvalidInput."""
    driver = driver_made(kind, connection, credentials)
    if isinstance(driver, ConnectionChecked):
        driver.check_connection()


def driver_made(kind: str, connection: Mapping[str, Any], credentials: Mapping[str, Any]) -> Driver:
    """A driver of settings that nobody has stored yet; it is not kept. Raises InvalidInput."""
    _refuse_unknown(kind)
    connect = import_string(DRIVERS[kind])
    return cast(Driver, connect(connection, credentials) if credentials else connect(connection))


def _refuse_unknown(kind: str) -> None:
    if kind not in DRIVERS:
        raise InvalidInput.at(
            "/kind", "unknown_kind", f"No driver for {kind!r}; there are {', '.join(sorted(DRIVERS))}."
        )


def _bytes(connection: Mapping[str, Any]) -> bytes:
    return orjson.dumps(connection, option=orjson.OPT_SORT_KEYS)


@lru_cache(maxsize=256)
def _connected(kind: str, connection: bytes) -> Driver:
    return cast(Driver, import_string(DRIVERS[kind])(orjson.loads(connection)))


@lru_cache(maxsize=256)
def _opened(kind: str, connection: bytes, target_id: str, sealed: str) -> Driver:
    try:
        secrets = credentials_opened(target_id, sealed)
    except VaultFault as error:
        raise DriverError("credentials_sealed", f"{error.detail} Replace the target's credentials.") from error
    return cast(Driver, import_string(DRIVERS[kind])(orjson.loads(connection), secrets))
