"""Everything that is wrong with a connection, not only the first thing: each fault is stood in for, and asked again."""

from __future__ import annotations

import copy
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, Final

from apps.kernel.errors import FieldError, InvalidInput
from apps.targets.services.credentials import credentials_check
from apps.targets.services.drivers import driver_checked

MOST_FAULTS: Final = 25
_KUBECONFIG: Final = """\
current-context: it
contexts: [{name: it, context: {cluster: it, user: it}}]
clusters: [{name: it, cluster: {server: "https://it.example"}}]
users: [{name: it, user: {token: it}}]
"""
# What stands in for a required value that is missing or wrong, so that the driver gets on to the next field. Never
# stored; what is no member of this is left out instead, which means its default.
_STAND_INS: Final[Mapping[str, Any]] = {
    "/connection/namespace": "it",
    "/connection/profile/image": "it",
    "/connection/profile/telemetry/url": "https://it.example",
    "/connection/profile/telemetry/secret": "it",
    "/connection/profile/artifact/claim": "it",
    "/connection/profile/artifact/image": "it",
    "/connection/profile/artifact/command": ["it"],
    "/connection/route/gateway": "it/it",
    "/connection/route/hosts": ["it.example"],
    "/connection/auth/server": "https://it.example",
    "/connection/build/repository": "it.example/it",
    "/connection/build/push_secret": "it",
    "/connection/build/token_secret": "it",
}
_TYPED: Final[Mapping[str, str]] = {"token": "it", "kubeconfig": _KUBECONFIG}
# What opens a cluster is a file or was typed: either is stood in for by something typed, without what goes with it.
_OPENERS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "/connection/auth/token_file": ("token", ("token_file",)),
    "/credentials/token": ("token", ("token_file",)),
    "/connection/auth/kubeconfig_file": ("kubeconfig", ("kubeconfig_file", "context")),
    "/credentials/kubeconfig": ("kubeconfig", ("kubeconfig_file", "context")),
}


def connection_faults(kind: str, connection: Mapping[str, Any], credentials: Mapping[str, Any]) -> list[FieldError]:
    """Every fault that can be told, each at its JSON pointer, in the driver's order; empty when there is none.

    1. ask the driver; 2. note the fault it names; 3. put something harmless in the place of that value and ask again,
    until nothing is found, or the same place is named twice. What is named only because of a stand-in lies below a
    place that was named already, and is not told.
    """
    tried = {"connection": copy.deepcopy(dict(connection)), "credentials": dict(credentials)}
    found: dict[str, FieldError] = {}
    for _ in range(MOST_FAULTS):
        fault = _first(kind, tried)
        if fault is None or fault.pointer in found:
            break
        if not any(fault.pointer.startswith(f"{pointer}/") for pointer in found):
            found[fault.pointer] = fault
        if not _stand_in(tried, fault):
            break
    return list(found.values())


def faults_refuse(faults: Sequence[FieldError]) -> None:
    """Raises InvalidInput with all of them; one alone keeps its own code."""
    if len(faults) == 1:
        raise InvalidInput(faults[0].code, faults[0].detail, fields=tuple(faults))
    if faults:
        said = " ".join(one.detail for one in faults)
        raise InvalidInput("several_faults", f"{len(faults)} fields are wrong. {said}", fields=tuple(faults))


def _first(kind: str, tried: Mapping[str, Any]) -> FieldError | None:
    try:
        credentials_check(kind, tried["credentials"])
        driver_checked(kind, tried["connection"], tried["credentials"])
    except InvalidInput as error:
        return error.fields[0] if error.fields else FieldError("/connection", error.code, error.detail)
    return None


def _stand_in(tried: dict[str, Any], fault: FieldError) -> bool:
    """Whether anything could be changed at the place of ``fault``."""
    pointer = fault.pointer
    if pointer in _OPENERS and fault.code != "unknown_field":
        name, beside = _OPENERS[pointer]
        tried["credentials"][name] = _TYPED[name]
        auth = tried["connection"].get("auth")
        for key in beside if isinstance(auth, MutableMapping) else ():
            auth.pop(key, None)
        return True
    if pointer == "/connection/auth/mode":
        tried["connection"]["auth"], tried["credentials"] = {}, {}
        return True
    *path, last = pointer.strip("/").split("/")
    if not path:
        tried[last] = {}
        return True
    place: Any = tried
    for part in path:
        if not isinstance(place, MutableMapping):
            return False
        place = place.setdefault(part, {})
    if not isinstance(place, MutableMapping):
        return False
    if pointer in _STAND_INS:
        place[last] = _STAND_INS[pointer]
        return True
    return place.pop(last, None) is not None
